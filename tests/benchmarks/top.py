"""How long `tunesmith top` takes to show many jobs, on a real API server: python -m tests.benchmarks.top [JOBS]"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.integration.cluster.statuses import make_job, progress
from tests.integration.controlplane import PROGRAMS, running_control_plane
from tests.integration.kube import Kube
from tests.tools.build import build

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = 5


def main() -> None:
    """Makes the jobs, all in training, and shows the table a few times."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    with (
        tempfile.TemporaryDirectory() as folder,
        running_control_plane(build(*PROGRAMS), Path(folder), sorted((ROOT / "manifests" / "crds").glob("*"))) as plane,
    ):
        kube = Kube(plane.kubeconfig)

        def make(number: int) -> None:
            figures = progress(number % 1000, loss=0.5, tokensPerSecond=1234.5, remainingSeconds=number)
            make_job(kube, "default", f"job-{number}", "Training", 1, progress=figures)

        make(0)
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(make, range(1, count)))
        command = [sys.executable, "-m", "tunesmith.cli.main", "top", "--kubeconfig", str(plane.kubeconfig)]
        seconds = []
        for _ in range(ROUNDS):
            began = time.perf_counter()
            table = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ).stdout
            seconds.append(time.perf_counter() - began)
            assert table.count("\n") == count + 1
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        print(f"{count:,} jobs: the table after {min(seconds):.2f} s, at most {used.ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
