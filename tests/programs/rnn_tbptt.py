"""An LSTM language model over made-up sentences, trained with truncated backpropagation through time."""

import argparse
import math
import random

import torch
import torch.nn as nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

SUBJECTS = ["the cat", "a dog", "my sister", "the old man", "nobody"]
VERBS = ["sees", "hears", "likes", "remembers"]
OBJECTS = ["the sea", "a song", "the rain", "that summer", "you"]


class Dictionary:
    def __init__(self):
        self.word2idx = {}
        self.idx2word = []

    def add_word(self, word):
        if word not in self.word2idx:
            self.word2idx[word] = len(self.idx2word)
            self.idx2word.append(word)
        return self.word2idx[word]

    def __len__(self):
        return len(self.idx2word)


class Corpus:
    def __init__(self, seed, n_train, n_valid):
        self.dictionary = Dictionary()
        self.rng = random.Random(seed)
        self.train = self.tokenize(n_train)
        self.valid = self.tokenize(n_valid)

    def sentence(self):
        return [
            *self.rng.choice(SUBJECTS).split(),
            self.rng.choice(VERBS),
            *self.rng.choice(OBJECTS).split(),
            "<eos>",
        ]

    def tokenize(self, n):
        ids = []
        for _ in range(n):
            for word in self.sentence():
                ids.append(self.dictionary.add_word(word))
        return torch.tensor(ids, dtype=torch.int64)


class RNNModel(nn.Module):
    """Container module with an encoder, a recurrent module, and a decoder."""

    def __init__(self, ntoken, ninp, nhid, nlayers, dropout=0.2, tie_weights=False):
        super().__init__()
        self.ntoken = ntoken
        self.drop = nn.Dropout(dropout)
        self.encoder = nn.Embedding(ntoken, ninp)
        self.rnn = nn.LSTM(ninp, nhid, nlayers, dropout=dropout)
        self.decoder = nn.Linear(nhid, ntoken)
        if tie_weights:
            if nhid != ninp:
                raise ValueError("When using the tied flag, nhid must be equal to emsize")
            self.decoder.weight = self.encoder.weight
        self.init_weights()
        self.nhid = nhid
        self.nlayers = nlayers

    def init_weights(self):
        initrange = 0.1
        nn.init.uniform_(self.encoder.weight, -initrange, initrange)
        nn.init.zeros_(self.decoder.bias)
        nn.init.uniform_(self.decoder.weight, -initrange, initrange)

    def forward(self, input, hidden):
        emb = self.drop(self.encoder(input))
        output, hidden = self.rnn(emb, hidden)
        output = self.drop(output)
        decoded = self.decoder(output)
        return decoded.view(-1, self.ntoken), hidden

    def init_hidden(self, bsz):
        weight = next(self.parameters())
        return (weight.new_zeros(self.nlayers, bsz, self.nhid), weight.new_zeros(self.nlayers, bsz, self.nhid))


def batchify(data, bsz):
    nbatch = data.size(0) // bsz
    data = data.narrow(0, 0, nbatch * bsz)
    return data.view(bsz, -1).t().contiguous()


def repackage_hidden(h):
    """Wraps hidden states in new Tensors, to detach them from their history."""
    if isinstance(h, torch.Tensor):
        return h.detach()
    return tuple(repackage_hidden(v) for v in h)


def get_batch(source, i, bptt):
    seq_len = min(bptt, len(source) - 1 - i)
    data = source[i : i + seq_len]
    target = source[i + 1 : i + 1 + seq_len].view(-1)
    return data, target


def evaluate(model, data_source, criterion, args):
    model.eval()
    total_loss = 0.0
    hidden = model.init_hidden(args.batch_size)
    with torch.no_grad():
        for i in range(0, data_source.size(0) - 1, args.bptt):
            data, targets = get_batch(data_source, i, args.bptt)
            output, hidden = model(data, hidden)
            hidden = repackage_hidden(hidden)
            total_loss += len(data) * criterion(output, targets).item()
    return total_loss / (len(data_source) - 1)


def train(model, train_data, criterion, optimizer, epoch, args):
    model.train()
    total_loss = 0.0
    hidden = model.init_hidden(args.batch_size)
    for batch, i in enumerate(range(0, train_data.size(0) - 1, args.bptt)):
        data, targets = get_batch(train_data, i, args.bptt)
        # Starting each batch, we detach the hidden state from how it was previously produced.
        hidden = repackage_hidden(hidden)
        model.zero_grad()
        output, hidden = model(data, hidden)
        loss = criterion(output, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), args.clip)
        optimizer.step()
        total_loss += loss.item()
        if batch % args.log_interval == 0 and batch > 0:
            cur_loss = total_loss / args.log_interval
            total_loss = 0.0
            print(f"| epoch {epoch:3d} | {batch:5d} batches | loss {cur_loss:5.2f} | ppl {math.exp(cur_loss):8.2f}")


def sample(model, dictionary, words):
    model.eval()
    hidden = model.init_hidden(1)
    token = torch.randint(len(dictionary), (1, 1), dtype=torch.long)
    out = []
    with torch.no_grad():
        for _ in range(words):
            output, hidden = model(token, hidden)
            weights = output.squeeze().div(0.8).exp()
            index = torch.multinomial(weights, 1)[0]
            token.fill_(index)
            out.append(dictionary.idx2word[index])
    return " ".join(out)


def main():
    parser = argparse.ArgumentParser(description="LSTM language model")
    parser.add_argument("--emsize", type=int, default=24)
    parser.add_argument("--nhid", type=int, default=24)
    parser.add_argument("--nlayers", type=int, default=2)
    parser.add_argument("--lr", type=float, default=2.0)
    parser.add_argument("--clip", type=float, default=0.25)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--bptt", type=int, default=8)
    parser.add_argument("--tied", action="store_true", help="tie the word embedding and softmax weights")
    parser.add_argument("--seed", type=int, default=1111)
    parser.add_argument("--log-interval", type=int, default=4)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    corpus = Corpus(args.seed, n_train=60, n_valid=20)
    train_data = batchify(corpus.train, args.batch_size)
    val_data = batchify(corpus.valid, args.batch_size)

    model = RNNModel(len(corpus.dictionary), args.emsize, args.nhid, args.nlayers, tie_weights=args.tied)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr)
    scheduler = ReduceLROnPlateau(optimizer, factor=0.25, patience=0)
    try:
        for epoch in range(1, args.epochs + 1):
            train(model, train_data, criterion, optimizer, epoch, args)
            val_loss = evaluate(model, val_data, criterion, args)
            scheduler.step(val_loss)
            print(f"| end of epoch {epoch:3d} | valid loss {val_loss:5.2f} | lr {optimizer.param_groups[0]['lr']:.3f}")
    except KeyboardInterrupt:
        print("Exiting from training early")
    print(sample(model, corpus.dictionary, 10))


if __name__ == "__main__":
    main()
