"""Run the suite with other kernels than this processor's own: `python -m tests.kernels`, with pytest's arguments."""

import os
import subprocess
import sys


# torch's, oneDNN's, MKL's and NumPy's code for the oldest x86-64 they still have code for. NumPy named single
# instruction sets before 2.4 and levels of x86-64 since.
PLAINEST = {
    "ATEN_CPU_CAPABILITY": "default",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "MKL_CBWR": "COMPATIBLE",
    "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX2 FMA3 AVX512F AVX512_SKX",
}
SETTINGS = {
    "the plainest kernels, one thread": PLAINEST | {"OMP_NUM_THREADS": "1"},
    "the plainest kernels, two threads": PLAINEST | {"OMP_NUM_THREADS": "2"},
    "AVX2, one thread": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "OMP_NUM_THREADS": "1"},
    "this processor's own kernels, two threads": {"OMP_NUM_THREADS": "2"},
}


def main() -> int:
    failed = []
    for name, environment in SETTINGS.items():
        print(f"\n== {name}", flush=True)
        if subprocess.run([sys.executable, "-m", "pytest", *sys.argv[1:]], env=os.environ | environment).returncode:
            failed.append(name)
    print(f"\nFailed with {'; '.join(failed)}." if failed else f"\nPassed with {'; '.join(SETTINGS)}.")
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
