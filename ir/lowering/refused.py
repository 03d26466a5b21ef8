"""The primitives that have no rule, each with the reason and what to do instead."""

from fnckpt.ir.lowering.registry import refuses

refuses(
    "its vectors are defined up to their sign, which each library chooses in its own way, and no "
    "runtime of these formats has it; compute it outside apply_fn and give the result as an input",
    "eig", "hessenberg", "schur", "tridiagonal",
)  # fmt: skip
refuses(
    "it draws from a generator that XLA keeps hidden, other numbers at each run; use jax.random",
    "rng_uniform",
)  # fmt: skip
refuses(
    "a callback is Python code, which no file holds, and an output depends on its value; write it "
    "with jax.numpy, or do it outside apply_fn",
    "debug_callback", "debug_print", "io_callback", "pure_callback",
)  # fmt: skip
refuses(
    "a Pallas kernel is code for one kind of device; give apply_fn the same function in jax.numpy",
    "pallas_call", "core_map",
)  # fmt: skip
refuses(
    "it calls code outside of JAX, which no file holds; write it with jax.numpy",
    "ffi_call", "call_tf", "call_exported",
)  # fmt: skip
refuses(
    "it communicates with other devices, and one device runs a file; export the function of one "
    "device",
    "psend", "precv", "ragged_all_to_all", "xla_pmap", "unreduced_psum",
    "unreduced_reduce_scatter", "preduced",
)  # fmt: skip
refuses(
    "it reads or writes a mutable reference, and a graph is a pure function; return new arrays "
    "instead",
    "addupdate", "get", "swap", "ref", "new_ref", "freeze", "free_ref", "array_ref",
    "masked_load", "masked_swap", "run_state", "empty_ref", "empty2",
)  # fmt: skip
refuses(
    "a window whose reductions of select and scatter are functions of the user; use the gradient "
    "of a max pooling, or write it with other operations",
    "select_and_scatter",
)  # fmt: skip
refuses(
    "it orders side effects, and a graph has none; leave it out of apply_fn",
    "after_all", "create_token",
)  # fmt: skip
refuses(
    "it lives inside differentiation only and no finished jaxpr holds it; differentiate before "
    "exporting, with jax.grad inside apply_fn",
    "custom_lin",
)  # fmt: skip
refuses(
    "a part of JAX's own export, which no traced function holds; export the function itself",
    "dimension_size", "shape_assertion",
)  # fmt: skip
