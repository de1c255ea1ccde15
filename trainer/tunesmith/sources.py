"""Resolves the addresses of a spec to folders, files and repositories of this machine."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from tunesmith.api.load import InputError, Problem
from tunesmith.api.pod import MOUNT_ROOT
from tunesmith.api.source import Location


@dataclass(frozen=True)
class Resolver:
    """Where claims, ConfigMaps and other jobs' runs are found."""

    mounts: Mapping[str, Path] = field(default_factory=dict)
    """Folder by name of claim or ConfigMap (`--mount NAME=DIR`)."""
    base: Path = Path()
    """What relative paths start from: the folder of the job's file."""
    runs: Path = Path("runs")
    """Where the runs of other jobs are, by name."""
    folders: Mapping[str, str] = field(default_factory=dict)
    """In a pod, where they are instead: the address of each run's folder by the job's name."""
    in_pod: bool = False
    """Whether claims are mounted below `mount_root`, as the operator does it."""
    mount_root: Path = Path(MOUNT_ROOT)

    def absolute(self) -> "Resolver":
        """The same, for a process with another working directory."""
        mounts = {name: folder.absolute() for name, folder in self.mounts.items()}
        return replace(self, mounts=mounts, base=self.base.absolute(), runs=self.runs.absolute())

    def path(self, location: Location, place: str) -> Path:
        """The file or folder of an address that is not `hf://`.

        Args:
            location: the address.
            place: the field that holds it, for the message.

        Raises:
            InputError: nothing is there, or its claim is not mounted.
        """
        path = self._path(location, place)
        if not path.exists():
            raise InputError(Problem(f"{path} does not exist", place))
        return path

    def run(self, location: Location, place: str) -> Path:
        """The folder of another job's run: job://NAME, or a folder's own address.

        Raises:
            InputError: it is not there, or its claim is not mounted.
        """
        if location.scheme != "job":
            return self.path(location, place)
        if location.name in self.folders:
            return self.path(Location.parse(self.folders[location.name]), place)
        folder = self.runs / location.name
        if not folder.exists():
            raise InputError(Problem(f"job {location.name} has left no run in {folder}; run it first", place))
        return folder

    def _path(self, location: Location, place: str) -> Path:
        match location.scheme:
            case "file":
                return Path(location.path)
            case "path":
                return self.base / location.path
            case "job":
                model = self.runs / location.name / "model"
                if not model.exists():
                    raise InputError(
                        Problem(f"job {location.name} has left no model in {model.parent}; run it first", place)
                    )
                return model
            case "pvc" | "configmap" if self.in_pod:
                return self.mount_root / location.scheme / location.name / location.path
            case _ if location.name in self.mounts:
                return self.mounts[location.name] / location.path
            case _:
                raise InputError(
                    Problem(
                        f"{location.scheme}://{location.name} is not on this machine; add --mount {location.name}=DIR",
                        place,
                    )
                )
