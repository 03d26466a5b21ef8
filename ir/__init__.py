"""The compiler: from a jaxpr to a functional graph, rewritten, to a target's file.

The road, in the order data flows: ``lowering`` (jaxpr to graph), ``passes`` (graph to graph),
``targets`` (graph to bytes). ``graph`` and ``operators`` say what a graph is and means.
"""

if __name__ != "fnckpt.ir":
    raise ImportError("ir is the source folder of fnckpt.ir; import fnckpt.ir instead")
