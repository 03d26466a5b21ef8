"""stub"""
LEGALIZE = ()
