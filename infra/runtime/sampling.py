"""Samples of this machine: processor, memory and disks by psutil, NVIDIA cards by NVML, others by the kernel's sysfs.

A machine without a card, or without a driver, is a normal case: it has no cards in its samples.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, TypeVar

import psutil
import pynvml

from events.hosts import DISKS_MAX, GPUS_MAX, Disk, Gpu, HostState
from infra.runtime import metrics

DRM = Path("/sys/class/drm")
"""Cards as Linux shows them."""
VENDORS: dict[str, tuple[Literal["amd", "intel"], str]] = {"0x1002": ("amd", "AMD"), "0x8086": ("intel", "Intel")}
"""PCI ids of makers whose cards the kernel describes, and their names; NVIDIA's driver does not."""
T = TypeVar("T")


class Sampler:
    """Samples this machine. `directory` is on the disk with the data; `drm` and `nvml` stand in for the machine's in tests."""

    def __init__(self, directory: Path, *, drm: Path = DRM, nvml: Any = pynvml) -> None:
        self._directory = directory
        self._drm = drm
        self._nvml = nvml
        psutil.cpu_percent()  # the first sample is about the time since now

    def sample(self) -> HostState:
        """Return the present figures, and show them to Prometheus."""
        memory = psutil.virtual_memory()
        state = HostState(
            cpu_percent=min(psutil.cpu_percent(), 100.0),
            cpu_count=os.cpu_count() or 1,
            load_1m=round(os.getloadavg()[0], 2),
            memory_total_bytes=memory.total,
            memory_used_bytes=memory.total - memory.available,
            disks=tuple(self._disks())[:DISKS_MAX],
            gpus=(*nvidia_cards(self._nvml), *kernel_cards(self._drm))[:GPUS_MAX],
        )
        show(state)
        return state

    def _disks(self) -> Iterator[Disk]:
        """Yield the file system of the data, then the others of this machine, each once."""
        mounted = {partition.mountpoint: partition.device for partition in psutil.disk_partitions(all=True)}
        ours = next(
            str(path) for path in (self._directory, *self._directory.parents) if str(path) in mounted or path == path.parent
        )
        devices = {mounted.get(ours)}
        yield from _disk(ours)
        for partition in psutil.disk_partitions():
            if partition.device not in devices:
                devices.add(partition.device)
                yield from _disk(partition.mountpoint)


def _disk(path: str) -> Iterator[Disk]:
    with contextlib.suppress(OSError):  # it was unmounted, or is for others
        usage = psutil.disk_usage(path)
        if usage.total:
            yield Disk(path=path, total_bytes=usage.total, used_bytes=usage.used, free_bytes=usage.free)


def nvidia_cards(nvml: Any) -> list[Gpu]:
    """Return the cards that NVIDIA's driver knows; none without a driver."""
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return []
    try:
        return [_nvidia_card(nvml, nvml.nvmlDeviceGetHandleByIndex(index)) for index in range(nvml.nvmlDeviceGetCount())]
    except nvml.NVMLError:  # a card fell off its bus
        return []
    finally:
        nvml.nvmlShutdown()


def _nvidia_card(nvml: Any, card: Any) -> Gpu:
    def asked(question: Callable[[], T]) -> T | None:
        """Return the answer; None when this card does not give one."""
        try:
            return question()
        except nvml.NVMLError:
            return None

    use = asked(lambda: nvml.nvmlDeviceGetUtilizationRates(card))
    encoder = asked(lambda: nvml.nvmlDeviceGetEncoderUtilization(card))
    memory = asked(lambda: nvml.nvmlDeviceGetMemoryInfo(card))
    return Gpu(
        model=str(asked(lambda: nvml.nvmlDeviceGetName(card)) or "NVIDIA"),
        vendor="nvidia",
        busy_percent=None if use is None else use.gpu,
        encoder_percent=None if encoder is None else encoder[0],
        memory_total_bytes=None if memory is None else memory.total,
        memory_used_bytes=None if memory is None else memory.used,
        temperature_celsius=asked(lambda: nvml.nvmlDeviceGetTemperature(card, nvml.NVML_TEMPERATURE_GPU)),
    )


def kernel_cards(drm: Path) -> list[Gpu]:
    """Return the cards of AMD and Intel, with the figures that their kernel drivers publish in sysfs (amdgpu, i915, xe)."""
    found = []
    for card in sorted(drm.glob("card[0-9]*/device")):
        if "-" in card.parent.name or (vendor := VENDORS.get(_text(card / "vendor") or "")) is None:
            continue  # a connector of a card, or another maker's
        heat = next((value for path in sorted(card.glob("hwmon/hwmon*/temp1_input")) if (value := _number(path)) is not None), None)
        found.append(
            Gpu(
                model=_text(card / "product_name") or f"{vendor[1]} {_text(card / 'device') or ''}".strip(),
                vendor=vendor[0],
                busy_percent=_number(card / "gpu_busy_percent"),
                memory_total_bytes=_number(card / "mem_info_vram_total"),
                memory_used_bytes=_number(card / "mem_info_vram_used"),
                temperature_celsius=None if heat is None else heat / 1000,
            )
        )
    return found


def _text(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace").strip() or None
    except OSError:
        return None


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text is not None and text.isdecimal() else None


def show(state: HostState) -> None:
    """Set the gauges of this machine."""
    metrics.HOST_CPU.set(state.cpu_percent)
    metrics.HOST_MEMORY_USED.set(state.memory_used_bytes)
    metrics.HOST_MEMORY_TOTAL.set(state.memory_total_bytes)
    for disk in state.disks:
        metrics.HOST_DISK_FREE.labels(disk.path).set(disk.free_bytes)
        metrics.HOST_DISK_TOTAL.labels(disk.path).set(disk.total_bytes)
    for number, gpu in enumerate(state.gpus):
        for gauge, value in (
            (metrics.HOST_GPU_BUSY, gpu.busy_percent),
            (metrics.HOST_GPU_ENCODER, gpu.encoder_percent),
            (metrics.HOST_GPU_MEMORY_USED, gpu.memory_used_bytes),
            (metrics.HOST_GPU_MEMORY_TOTAL, gpu.memory_total_bytes),
            (metrics.HOST_GPU_TEMPERATURE, gpu.temperature_celsius),
        ):
            if value is not None:
                gauge.labels(str(number), gpu.model).set(value)
