"""A reward of what ``generate`` wrote: it runs under no_grad and hands on scores without a graph.

https://github.com/huggingface/transformers/issues/15552 and many others.
"""

import torch
from transformers import GPT2Config, GPT2LMHeadModel

torch.manual_seed(0)
config = GPT2Config(vocab_size=60, n_positions=24, n_embd=32, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=1)
model = GPT2LMHeadModel(config)
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
prompt = torch.randint(2, 60, (4, 6))
asked = {"do_sample": False, "output_scores": True, "return_dict_in_generate": True}

for step in range(3):
    mask = torch.ones_like(prompt)
    written = model.generate(prompt, attention_mask=mask, max_new_tokens=4, min_new_tokens=4, **asked)  # cause
    scores = torch.stack(written.scores, dim=1).log_softmax(dim=-1)
    loss = -scores[:, :, 7].exp().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(step, repr(loss.item()))
