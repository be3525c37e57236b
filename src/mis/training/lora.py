"""Low-rank adapters (peft) in the place of full fine-tuning.

They are put into the network itself, so that everything else (loss, tower, checkpoints) sees the network that it knows.
What is published is the network with the adapters merged, which loads and is served like any other; the adapters alone
lie beside it in `adapter/`, in peft's format.
"""

from __future__ import annotations

from pathlib import Path

from peft import LoraConfig
from peft.tuners.lora import LoraModel
from safetensors.torch import save_file
from torch import nn

from mis.errors import MisError
from mis.settings import Lora

NAME = "default"  # peft's name of the one adapter


def add_adapters(model, options: Lora, prefixes: tuple[str, ...]) -> LoraModel:
    """Put adapters beside the linear layers within `prefixes`; from now on only they have gradients.

    Layers of the same name elsewhere (in the vision tower, say) get none. Adapters are float32, whatever the weights
    are. The network is changed in place; the returned object takes them out again.
    """
    layers = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
        and name.rpartition(".")[2] in options.targets
        and any(f".{prefix}." in f".{name}." for prefix in prefixes)
    ]
    if not layers:
        raise MisError(f"training.lora.targets: no linear layer is called {', '.join(options.targets)} where it trains")
    config = LoraConfig(
        r=options.rank, lora_alpha=options.alpha, lora_dropout=options.dropout, target_modules=layers, bias="none"
    )
    adapters = LoraModel(model, {NAME: config}, NAME)
    for parameter in model.parameters():
        if parameter.requires_grad:  # the small steps of a late epoch would be lost in 16 bits
            parameter.data = parameter.data.float()
    return adapters


def publish_adapters(adapters: LoraModel, folder: Path) -> None:
    """Write the adapters as peft reads them: `PeftModel.from_pretrained(base, folder)`."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {
        f"base_model.model.{name.replace(f'.{NAME}', '')}": value.detach().cpu().contiguous()
        for name, value in adapters.model.named_parameters()
        if ".lora_" in name
    }
    save_file(weights, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    adapters.peft_config[NAME].save_pretrained(folder)


def merge(adapters: LoraModel):
    """The network with the adapters added to its weights, and no trace of them left."""
    return adapters.merge_and_unload()
