"""LoRA on a small Llama whose layers are checkpointed, merged at the end."""

import hashlib

import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

torch.manual_seed(0)
config = LlamaConfig(
    vocab_size=100,
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=32,
    use_cache=False,
)
base = LlamaForCausalLM(config)
base.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": True})
base.enable_input_require_grads()
model = get_peft_model(base, LoraConfig(r=4, lora_alpha=8, lora_dropout=0.05, target_modules=["q_proj", "v_proj"]))
model.print_trainable_parameters()
optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
tokens = torch.randint(0, 100, (24, 16))

model.train()
for step in range(6):
    batch = tokens[step * 4 : step * 4 + 4]
    loss = model(input_ids=batch, labels=batch).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    print(step, repr(loss.item()))

merged = model.merge_and_unload()
print(hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in merged.parameters())).hexdigest()[:16])
