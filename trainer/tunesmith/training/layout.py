"""Which worker computes what: workers form a grid of data-parallel by tensor-parallel ones."""

from dataclasses import dataclass

import numpy as np
import torch.distributed as dist
from accelerate import Accelerator
from numpy.typing import NDArray
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from tunesmith.api.job import FineTuneJobSpec
from tunesmith.data.plan import MicroBatch, cut_packed, cut_padded

DATA, TENSOR = "data", "tensor"
"""The two sides of the grid."""


@dataclass(frozen=True)
class Layout:
    """This worker's place."""

    rank: int
    workers: int
    tensor: int = 1
    """Workers that share each layer, and compute the same rows; neighbours by rank."""
    mesh: DeviceMesh | None = None
    """[data, tensor], where weights are sharded by PyTorch; None under DDP, ZeRO, and on one worker."""

    @classmethod
    def of(cls, spec: FineTuneJobSpec, accelerator: Accelerator) -> "Layout":
        """The grid that a spec asks for; every worker must call this."""
        workers, tensor = accelerator.num_processes, spec.scaling.tensor_parallel
        sharded = workers > 1 and (spec.scaling.fsdp is not None or tensor > 1)
        shape = (workers // tensor, tensor)
        mesh = init_device_mesh(accelerator.device.type, shape, mesh_dim_names=(DATA, TENSOR)) if sharded else None
        return cls(accelerator.process_index, workers, tensor, mesh)

    @property
    def data_workers(self) -> int:
        """Among how many the rows of a step are cut."""
        return self.workers // self.tensor

    @property
    def data_rank(self) -> int:
        """Which of them this worker is; the same for those that share layers."""
        return self.rank // self.tensor

    def cut(
        self, rows: NDArray[np.int64], lengths: NDArray[np.int64], size: int, capacity: int | None
    ) -> list[MicroBatch]:
        """This worker's micro-batches of some rows; as many as every other worker has.

        Args:
            rows: indices of the rows.
            lengths: tokens of every row of the data set.
            size: the most rows at once, side by side.
            capacity: the most tokens at once, where rows are packed; None where they are not.
        """
        if capacity is not None:
            return cut_packed(rows, lengths, self.data_workers, capacity)[self.data_rank]
        return cut_padded(rows, lengths, self.data_workers, size)[self.data_rank]

    def data_group(self) -> dist.ProcessGroup:
        """The workers with this one's part of the layers, each with rows of its own."""
        assert self.mesh is not None
        return self.mesh[DATA].get_group()

    def tensor_group(self) -> dist.ProcessGroup:
        """The workers with this one's rows, each with a part of the layers."""
        assert self.mesh is not None
        return self.mesh[TENSOR].get_group()
