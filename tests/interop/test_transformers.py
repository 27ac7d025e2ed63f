"""Hugging Face's Trainer: `compute_loss_func`, exact under gradient accumulation."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import Trainer, TrainingArguments

from losses_core import ConfigError, InputError, build_loss
from losses_core.interop import compute_loss_func
from losses_testkit.jobs import pixel_classifier

from .data import images


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = pixel_classifier()

    def forward(self, pixel_values, labels=None):
        return {"logits": self.net(pixel_values)}


def data():
    x, y = images(16)
    y[:4] = -100  # the small batches hold different numbers of labels
    y[4:6, :4] = -100
    return [{"pixel_values": image, "labels": label} for image, label in zip(x, y, strict=True)]


def trained(tmp_path, loss, batch_size, accumulation, **options):
    arguments = TrainingArguments(
        str(tmp_path),
        per_device_train_batch_size=batch_size,
        gradient_accumulation_steps=accumulation,
        max_steps=4,
        learning_rate=0.1,
        optim="sgd",
        lr_scheduler_type="constant",
        max_grad_norm=0.0,
        report_to=[],
        save_strategy="no",
        use_cpu=True,
        disable_tqdm=True,
        seed=0,
    )
    torch.manual_seed(0)
    model = Model()
    function = compute_loss_func(loss, accumulation_steps=accumulation, **options)
    trainer = Trainer(model, arguments, train_dataset=data(), compute_loss_func=function)
    trainer._get_train_sampler = lambda *_: torch.utils.data.SequentialSampler(range(16))
    trainer.train()
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize("config", ["CrossEntropyLoss", {"type": "FocalLoss", "ignore_index": -100}], ids=str)
def test_accumulated_batches_equal_the_large_batch(tmp_path, config):
    loss = build_loss(config)
    large = trained(tmp_path, loss, 16, 1)
    torch.testing.assert_close(trained(tmp_path, loss, 2, 8), large, rtol=1e-4, atol=1e-6)
    start = torch.cat([p.detach().flatten() for p in Model().parameters()])
    assert (large - start).abs().max() > 0.01


def test_of_a_combination_each_term_gets_its_own_denominator(tmp_path):
    loss = build_loss(
        {"ce": {"type": "CrossEntropyLoss"}, "tv": {"type": "CrossEntropyLoss", "ignore_index": -1, "loss_weight": 0.1}}
    )
    with pytest.raises(
        ConfigError, match="tv: ignores the label -1, but the Trainer counts every label that is not -100"
    ):
        compute_loss_func(loss)
    overlap = build_loss(
        {"ce": {"type": "CrossEntropyLoss"}, "dice": {"type": "DiceLoss", "ignore_index": -100, "loss_weight": 0.5}}
    )
    function = compute_loss_func(overlap, items=["ce"], accumulation_steps=4)
    x, y = images(2)
    logits = pixel_classifier()(x)
    terms = overlap.terms(logits, y)
    expected = terms["ce"] * y.numel() / 1000 + terms["dice"] / 4
    torch.testing.assert_close(function({"logits": logits}, y, num_items_in_batch=1000), expected)
    torch.testing.assert_close(function({"logits": logits}, y), terms.total / 4)
    trained(tmp_path, overlap, 4, 4, items=["ce"])


def test_language_models_shift_and_have_the_classes_last():
    logits, labels = torch.randn(2, 6, 11), torch.randint(11, (2, 6))
    labels[0, 3:] = -100
    function = compute_loss_func(build_loss("CrossEntropyLoss"), class_dim=-1, shift=True)
    expected = nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
    torch.testing.assert_close(function({"logits": logits}, labels), expected)


def test_what_cannot_be_is_said():
    loss = build_loss("CrossEntropyLoss")
    with pytest.raises(ConfigError, match=r"items: there is no term 'cee'\. Did you mean 'ce'\?"):
        compute_loss_func(build_loss({"ce": "CrossEntropyLoss"}), items=["cee"])
    with pytest.raises(ConfigError, match="items: names terms of a combination"):
        compute_loss_func(loss, items=["ce"])
    with pytest.raises(InputError, match=r"no 'logit'\. Did you mean 'logits'\?"):
        compute_loss_func(loss, "logit")({"logits": torch.zeros(1, 2)}, torch.zeros(1).long())
    with pytest.raises(ConfigError, match="accumulation_steps: expected an integer >= 1; got 0"):
        compute_loss_func(loss, accumulation_steps=0)
