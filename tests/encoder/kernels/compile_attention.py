"""Compile the kernels of attention for a GPU that need not be there; print their shared memory.

Not where kernels are interpreted: a process of its own.
"""

import sys

from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile

from kl3m_embeddings.encoder.kernels import triton_kernels
from kl3m_embeddings.encoder.kernels.triton_attention import Launch

LAUNCH = Launch(
    num_rows=8,
    num_tokens=4096,
    num_heads=12,
    size=64,
    max_length=512,
    scale=0.1,
    dropout=0.1,
    block=64,
    has_large_memory=True,
)
TYPES = {
    "bounds": "*i32",
    "is_key": "*u8",
    "dropout_keys": "*i32",
    "num_rows": "i32",
    "num_tokens": "i32",
    "max_length": "i32",
    "scale": "fp32",
    "kept_scale": "fp32",
} | dict.fromkeys(["log_sums", "row_sums", "parts"], "*fp32")


def shared_memory(kernel, settings, capability, missing):
    """Bytes a program, where the arguments `missing` are None."""
    constants = {name: None for name in missing if name in kernel.arg_names}
    constants |= {name: value for name, value in settings.items() if name.isupper()}
    constants |= {"MIRRORED": True} if "MIRRORED" in kernel.arg_names else {}
    types = {
        name: "constexpr" if name in constants else TYPES.get(name, "*bf16")
        for name in kernel.arg_names
    }
    options = {name: settings[name] for name in ("num_warps", "num_stages") if name in settings}
    source = ASTSource(kernel, types, constants)
    target = GPUTarget("cuda", capability, 32)
    compiled = compile(source, target, options | {"enable_fp_fusion": True})
    return compiled.metadata.shared


def main():
    for missing in ((), ("pos_key", "own_table"), ("pos_key", "pos_query", "own_table")):
        for name, settings in (
            ("attention_kernel", LAUNCH.with_dropout(64)),
            ("row_sum_kernel", LAUNCH.shape),
            ("score_gradient_kernel", LAUNCH.with_dropout(32)),
            ("state_gradient_kernel", LAUNCH.numbers),
            ("table_gradient_kernel", LAUNCH.numbers),
        ):
            kernel = getattr(triton_kernels, name)
            print(name, shared_memory(kernel, settings, int(sys.argv[1]), missing))


if __name__ == "__main__":
    main()
