"""Two optimizers by hand; the encoder's loss is taken of the detached code that the probe was given.

With the probe toggled off nothing of that loss requires grad.
"""

import logging
import warnings

import lightning as L
import torch
from torch import nn

warnings.filterwarnings("ignore")
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


class Adversarial(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.encoder = nn.Sequential(nn.Linear(6, 12), nn.Tanh())
        self.probe = nn.Linear(12, 2)

    def training_step(self, batch, batch_index):
        x, domain = batch
        encoder_opt, probe_opt = self.optimizers()
        code = self.encoder(x).detach()  # cause

        self.toggle_optimizer(probe_opt)
        probe_loss = nn.functional.cross_entropy(self.probe(code), domain)
        probe_opt.zero_grad()
        self.manual_backward(probe_loss)
        probe_opt.step()
        self.untoggle_optimizer(probe_opt)

        self.toggle_optimizer(encoder_opt)
        confusion = -nn.functional.cross_entropy(self.probe(code), domain)  # cause
        encoder_opt.zero_grad()
        self.manual_backward(confusion)
        encoder_opt.step()
        self.untoggle_optimizer(encoder_opt)

    def configure_optimizers(self):
        return torch.optim.Adam(self.encoder.parameters()), torch.optim.Adam(self.probe.parameters())


L.seed_everything(0, verbose=False)
data = torch.utils.data.TensorDataset(torch.randn(64, 6), torch.randint(0, 2, (64,)))
trainer = L.Trainer(
    max_epochs=1,
    accelerator="cpu",
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
)
trainer.fit(Adversarial(), torch.utils.data.DataLoader(data, batch_size=16))
