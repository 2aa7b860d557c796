"""Makes idefics3.safetensors beside this file: the connector of Idefics3 and SmolVLM (pixel shuffle, then one linear layer) as
transformers runs it, with random weights, an input and its output for two factors. Run: python make_idefics3.py (torch, transformers).
"""
import os

import torch
from safetensors.torch import save_file
from transformers.models.idefics3.modeling_idefics3 import Idefics3Connector


class Config:
    """The fields that the connector reads."""

    class vision_config:
        hidden_size = 8

    class text_config:
        hidden_size = 10

    def __init__(self, factor):
        self.scale_factor = factor


torch.manual_seed(0)
tensors = {}
for factor in [2, 3]:
    connector = Idefics3Connector(Config(factor)).eval()
    x = torch.randn(2, 36, 8)
    with torch.no_grad():
        y = connector(x)
    tensors |= {
        f"factor{factor}.input": x,
        f"factor{factor}.output": y.contiguous(),
        f"factor{factor}.proj.weight": connector.modality_projection.proj.weight.detach().contiguous(),
    }
save_file(tensors, os.path.join(os.path.dirname(os.path.abspath(__file__)), "idefics3.safetensors"))
