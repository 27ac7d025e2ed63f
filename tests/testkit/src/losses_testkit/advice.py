"""What to do about a failed test of the contract: shown below the failure."""

from __future__ import annotations

import re
import traceback

_DEVICE = (
    "the loss must be one graph and must not wait for the device: no value of a tensor may decide what Python does, "
    "and no shape may depend on values."
)
_MASK = (
    "mask before the arithmetic, since 0 · NaN is NaN: replace what is ignored by a constant with `torch.where` or "
    "`masked_fill`, then compute. Return `Unreduced(value, normalizer)` with 0 there, so that it leaves the "
    "denominator."
)
_KERNEL = (
    "find the input where kernel and definition differ with `losses_core.kernels.explain`; the definition is right by "
    "construction, so change the kernel. Check blocks smaller than the batch, weights, and reduction 'none'."
)
_STATE = "keep parameters as they were given, and everything that a call changes in registered buffers, detached."
_RANKS = (
    "name the denominator in the definition so that numerators and denominators are summed over the ranks before "
    "they are divided; what depends on the whole batch otherwise needs `losses_core.distributed`. Or set "
    "`distributed=False` and say why. A loss that sends more than one sum and one count tells so in `sent`."
)
_NORMALIZER = (
    "declare `normalizer=` in `@definition`: a function of the target and the options alone; or set "
    "`normalizer=False` if the target does not tell what `mean` divides by."
)
_ZERO = (
    "nothing may be divided by a sum that can be 0, and no `mean()` taken of an empty tensor: return the unreduced "
    "value and leave the division to the base class. If an empty batch has no meaning, set `empty=False` and say "
    "why."
)
_ONCE = (
    "make what depends on the batch size a tensor, and keep Python numbers of it (`len`, `.shape[0]`) out of branches."
)

ADVICE = {
    "test_a_gradient_may_be_written_into": "the backward returns a tensor that it keeps: return a new one, or a clone.",
    "test_a_gradient_scaler_loses_nothing": (
        "multiply by the incoming gradient in float32 and round to half precision last, not the other way round."
    ),
    "test_a_learned_weight_gets_a_gradient": "multiply by `loss_weight` as a tensor, or leave it to the base class.",
    "test_a_models_output_in_place_of_pred": (
        "check the type of `pred` before using it: `losses_core.utils.checks` does, as does a declared `layout`."
    ),
    "test_a_sample_of_weight_zero_has_no_influence": f"{_MASK} Weights are applied by the base class.",
    "test_a_weight_multiplies": (
        "return one value per element or sample and leave the weight to the base class; or set `weight=False` in the "
        "case if no row of `pred` alone decides a row of the loss."
    ),
    "test_all_weights_zero_costs_zero": _ZERO,
    "test_an_empty_batch_costs_zero": _ZERO,
    "test_autocast_changes_nothing": (
        "compute everything inside `function` or `_forward`, which the base class calls in float32 and outside "
        "autocast."
    ),
    "test_avg_factor_is_summed_over_the_ranks": _RANKS,
    "test_changes_nothing_outside": (
        "write into copies, not into the arguments; restore global modes; if a call draws random numbers, set "
        "`draws=True`."
    ),
    "test_chunks_of_samples_equal_the_whole": (
        "if the loss couples the samples of a batch, say so with the class attribute `coupled = 'batch'`."
    ),
    "test_compiles_once_for_all_batch_sizes": f"{_ONCE} Or set `dynamic=False` and say why.",
    "test_compiles_to_one_graph": _DEVICE,
    "test_compiles_with_a_weight": _DEVICE,
    "test_compiles_with_inductor_to_the_same_numbers": (
        "avoid writing in place into tensors that are read again; compare the value in parts under backend 'aot_eager'."
    ),
    "test_compiles_without_a_gradient": f"{_DEVICE} Do not ask whether a gradient is needed in the definition.",
    "test_copies_give_the_same_result": _STATE,
    "test_ddp": "every parameter has to take part in each call, and equal inputs have to give equal gradients.",
    "test_documentation_is_complete": (
        "add what is missing to the docstring of the class, in the order of the list; `losses new` writes an "
        "example. A package with another convention sets `documentation=False` in its cases and says why."
    ),
    "test_double_backward_equals_that_of_the_definition": _KERNEL,
    "test_double_backward_works_or_says_why_not": (
        "build the gradient from differentiable operations; if a factor is detached on purpose, set "
        "`gradgradcheck=False` and say why. Keep the inputs of the case away from kinks."
    ),
    "test_edge_inputs_are_finite": (
        "keep logarithms, roots and divisions away from 0: clamp what goes in, not what comes out, because the "
        "gradient of a masked infinity is NaN. `losses_core.utils.stable` has stable forms."
    ),
    "test_everything_ignored_costs_zero": _ZERO,
    "test_exports": _DEVICE,
    "test_gradient_is_the_derivative": (
        "compare with the definition first. Keep the inputs of `make` away from kinks and ties. If a factor is "
        "detached on purpose, set `gradcheck=False` and say why."
    ),
    "test_half_precision_equals_float32": (
        "cast to float32 first and round once, at the end. If rounding of the input alone explains it, raise "
        "`half_tolerance`."
    ),
    "test_ignored_places_have_no_influence": _MASK,
    "test_ignored_places_leave_the_denominator": _MASK,
    "test_keeps_no_graph": "detach what is stored for the next call, or it keeps the memory of the last one.",
    "test_kernel_equals_definition": _KERNEL,
    "test_micro_batches_add_up": _NORMALIZER,
    "test_moving_the_loss_does_not_change_it": (
        "keep constants as Python numbers or in float32, and not in a buffer that `half()` would round."
    ),
    "test_normalizer_of_the_target": _NORMALIZER,
    "test_nothing_is_ignored_at_a_call": "treat `ignore_index=None` as: nothing is ignored.",
    "test_options_of_the_call_beat_the_constructor": (
        "leave `reduction`, `loss_weight` and `avg_factor` to the base class; set `avg_factor=False` if it is not "
        "accepted."
    ),
    "test_parameters_are_kept_as_given": "store each parameter of the constructor under its own name, unchanged.",
    "test_peak_memory": (
        "free temporaries before the next one is made, or compute in blocks: see the guide on kernels. `losses "
        "probe` shows the memory of a loss."
    ),
    "test_runs_on_meta": _DEVICE,
    "test_saturated_and_uniform_logits_are_finite": (
        "use `log_softmax`, `logsigmoid` or `losses_core.utils.stable`, never the logarithm of a probability. If "
        "`pred` holds no logits, set `logits=False` in the case."
    ),
    "test_saves_little_for_backward": (
        "give the gradient in a kernel that saves its inputs only: see the guide on kernels; or leave `saved` at None."
    ),
    "test_several_gradients_at_once": "a custom Function needs `vmap`, or `generate_vmap_rule = True`.",
    "test_several_ranks_equal_one_process": _RANKS,
    "test_several_ranks_run_compiled_in_one_graph": f"{_RANKS} {_DEVICE}",
    "test_the_config_builds_the_loss_again": _STATE,
    "test_the_default_device_does_not_matter": (
        "give each new tensor the device of an input: `pred.new_zeros(…)`, `torch.arange(…, device=pred.device)`."
    ),
    "test_torch_func_grad": "a custom Function needs `setup_context`; writing in place is not possible here.",
    "test_unknown_words_are_refused_with_a_hint": (
        "take other options with `**options: Unpack[LossOptions]` and pass them to `super().__init__`."
    ),
    "test_value_equals_the_oracle": (
        "compare both with the paper. The oracle gets the case's own options, so its defaults have to be the "
        "published ones; what it returns is the unreduced value and each element's share of what `mean` divides by."
    ),
    "test_without_sync_dist_nothing_communicates": "communicate only if `sync_dist` is set.",
}

_CULPRITS = {
    r"(?<!to_)\bone_hot\(": (
        "`torch.nn.functional.one_hot` without a number of classes reads the largest label: use "
        "`losses_core.convert_to_one_hot(labels, num_classes)`."
    ),
    r"\.item\(|\.tolist\(|_local_scalar_dense": "`.item()` reads a value: keep it a tensor.",
    r"(?i)data-dependent branching|Boolean value of Tensor": "`if` on a tensor reads it: use `torch.where`.",
    r"nonzero|masked_select|\bunique": (
        "a mask as an index gives a shape that depends on values: multiply by the mask, or use `torch.where`."
    ),
}


def advise(test: str, error: BaseException) -> str | None:
    """What to do about this error in a test of the contract; nothing for a test that is not of it."""
    if test not in ADVICE:
        return None
    lines = [f"What to do: {ADVICE[test]}"]
    if _DEVICE in ADVICE[test]:
        frames = "\n".join(frame.line or "" for frame in traceback.extract_tb(error.__traceback__))
        lines += [hint for pattern, hint in _CULPRITS.items() if re.search(pattern, f"{error}\n{frames}")][:1]
    return "\n".join(lines)
