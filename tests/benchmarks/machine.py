"""What a machine is, where that decides speed and rounding: written beside figures."""

import os
import platform
from typing import Any

import torch


def machine() -> dict[str, Any]:
    """Return the processor and what it can do, memory in GB, threads of this process, and versions."""
    able = torch.cpu.get_capabilities()
    return {
        "processor": able.get("cpu_name") or platform.machine(),
        "cores": os.cpu_count(),
        "vectors": "AVX-512" if able.get("avx512_f") else "AVX2" if able.get("avx2") else "others",
        "bfloat16_units": has_bfloat16_units(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def has_bfloat16_units() -> bool:
    """Return whether this processor computes in bfloat16 itself instead of emulating it."""
    able = torch.cpu.get_capabilities()
    return bool(able.get("amx_bf16") or able.get("avx512_bf16"))
