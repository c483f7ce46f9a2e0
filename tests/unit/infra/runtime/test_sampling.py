"""A machine's samples: this one as it is, cards that a driver knows, and cards that the kernel describes."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from infra.runtime.metrics import REGISTRY
from infra.runtime.sampling import Sampler, kernel_cards, nvidia_cards


def test_this_machine_is_sampled_as_it_is(tmp_path: Path) -> None:
    state = Sampler(tmp_path).sample()
    usage = psutil.disk_usage(str(tmp_path))
    assert state.memory_total_bytes == psutil.virtual_memory().total > state.memory_used_bytes > 0
    assert state.disks[0].total_bytes == usage.total, "the first disk is the one with the data"
    assert len({disk.path for disk in state.disks}) == len(state.disks)
    assert REGISTRY.get_sample_value("kinolog_host_cpu_percent") == state.cpu_percent
    assert REGISTRY.get_sample_value("kinolog_host_disk_free_bytes", {"mount": state.disks[0].path}) == state.disks[0].free_bytes


def test_a_directory_that_is_not_there_yet_is_on_the_disk_of_its_parents(tmp_path: Path) -> None:
    sampler = Sampler(tmp_path / "not" / "there")
    assert sampler.sample().disks[0].total_bytes == psutil.disk_usage(str(tmp_path)).total


@dataclass
class Use:
    gpu: int


@dataclass
class Memory:
    total: int
    used: int


@dataclass
class Driver:
    """NVIDIA's library over some cards: the questions of each that it answers. It counts its sessions."""

    cards: list[dict[str, Any]]
    loaded: bool = True
    sessions: int = 0
    ended: int = 0
    NVML_TEMPERATURE_GPU: int = field(default=0, init=False)

    class NVMLError(Exception):
        """The library refuses."""

    def nvmlInit(self) -> None:
        if not self.loaded:
            raise self.NVMLError("driver not loaded")
        self.sessions += 1

    def nvmlShutdown(self) -> None:
        self.ended += 1

    def nvmlDeviceGetCount(self) -> int:
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def _answer(self, card: int, question: str) -> Any:
        if question not in self.cards[card]:
            raise self.NVMLError("not supported")
        return self.cards[card][question]

    def nvmlDeviceGetName(self, card: int) -> Any:
        return self._answer(card, "name")

    def nvmlDeviceGetUtilizationRates(self, card: int) -> Any:
        return self._answer(card, "use")

    def nvmlDeviceGetEncoderUtilization(self, card: int) -> Any:
        return self._answer(card, "encoder")

    def nvmlDeviceGetMemoryInfo(self, card: int) -> Any:
        return self._answer(card, "memory")

    def nvmlDeviceGetTemperature(self, card: int, sensor: int) -> Any:
        assert sensor == self.NVML_TEMPERATURE_GPU
        return self._answer(card, "heat")


def test_each_card_of_the_driver_is_sampled_and_figures_without_an_answer_are_left_out() -> None:
    whole = {"name": "NVIDIA T4", "use": Use(42), "encoder": [61, 200_000], "memory": Memory(16, 4), "heat": 58}
    driver = Driver([whole, {"name": "NVIDIA Old"}])
    first, second = nvidia_cards(driver)
    assert (first.model, first.busy_percent, first.encoder_percent, first.temperature_celsius) == ("NVIDIA T4", 42, 61, 58)
    assert (first.memory_total_bytes, first.memory_used_bytes) == (16, 4)
    assert second.model_dump(exclude_none=True) == {"model": "NVIDIA Old", "vendor": "nvidia"}
    assert driver.sessions == driver.ended == 1


def test_a_machine_without_a_driver_has_no_cards() -> None:
    driver = Driver([], loaded=False)
    assert nvidia_cards(driver) == [] and driver.ended == 0


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_cards_of_amd_and_intel_are_read_from_the_kernel(tmp_path: Path) -> None:
    """The files of amdgpu and i915; a card of NVIDIA and a connector are none of these."""
    write(
        tmp_path,
        {
            "card0/device/vendor": "0x1002\n",
            "card0/device/device": "0x73bf\n",
            "card0/device/gpu_busy_percent": "37\n",
            "card0/device/mem_info_vram_total": "17163091968\n",
            "card0/device/mem_info_vram_used": "1234567890\n",
            "card0/device/hwmon/hwmon3/temp1_input": "61000\n",
            "card0-DP-1/device/vendor": "0x1002\n",
            "card1/device/vendor": "0x8086\n",
            "card1/device/device": "0x56a0\n",
            "card2/device/vendor": "0x10de\n",
        },
    )
    amd, intel = kernel_cards(tmp_path)
    assert (amd.vendor, amd.model, amd.busy_percent, amd.temperature_celsius) == ("amd", "AMD 0x73bf", 37, 61)
    assert (amd.memory_total_bytes, amd.memory_used_bytes, amd.encoder_percent) == (17163091968, 1234567890, None)
    assert intel.model_dump(exclude_none=True) == {"model": "Intel 0x56a0", "vendor": "intel"}
    assert kernel_cards(tmp_path / "nothing") == []
