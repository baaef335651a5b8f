#!/bin/sh
# Is the backbone frozen, does the head still learn, and what does the step keep for backward?
set -eu

gradscope check --quiet freeze_backbone || exit 1

trainable=$(gradscope eval freeze_backbone 'sum(p.numel() for p in [*backbone.parameters(), *head.parameters()] if p.requires_grad)' 2>/dev/null)
echo "trainable: $trainable"

gradscope run -f json freeze_backbone 2>/dev/null |
    jq -r '"saved for backward: \(.memory.saved_bytes) bytes", "cuts: \(.cuts | length)"'

if gradscope compare --exit-code --only nothing,no_grad freeze_encoder >/dev/null; then
    echo "no_grad makes no difference"
else
    echo "no_grad makes a difference"
fi
