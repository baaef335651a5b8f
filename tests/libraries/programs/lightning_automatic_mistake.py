"""``training_step`` returns a new tensor of the losses instead of their sum.

https://github.com/Lightning-AI/pytorch-lightning/issues/7405: "element 0 of tensors does not require grad".
"""

import logging
import warnings

import lightning as L
import torch
from torch import nn

warnings.filterwarnings("ignore")
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


class TwoHeads(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(8, 16), nn.ReLU())
        self.heads = nn.ModuleList([nn.Linear(16, 3), nn.Linear(16, 3)])

    def training_step(self, batch, batch_index):
        x, y = batch
        hidden = self.trunk(x)
        losses = [nn.functional.cross_entropy(head(hidden), y) for head in self.heads]
        total = torch.tensor(losses).mean()  # cause
        self.log("train_loss", total)
        return total

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-2)


L.seed_everything(0, verbose=False)
data = torch.utils.data.TensorDataset(torch.randn(64, 8), torch.randint(0, 3, (64,)))
trainer = L.Trainer(
    max_epochs=1,
    accelerator="cpu",
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
)
trainer.fit(TwoHeads(), torch.utils.data.DataLoader(data, batch_size=16))
