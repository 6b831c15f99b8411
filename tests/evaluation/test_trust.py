"""What is said of explanations follows from the figures, whatever they are."""

import pytest

from finegym.evaluation.trust import UNKNOWN, judge, trust_in


def figures(*, precise: float, faithful: float, kind: str = "attribute") -> dict:
    """Two models. Occlusion finds moments with `precise`, attention is `faithful` to the model."""

    def row(precision: float, deletion: float, insertion: float) -> dict:
        values = {f"{kind}.pointing": precision + 0.1, f"{kind}.average_precision": precision}
        values |= {"deletion": deletion, "insertion": insertion}
        return {measure: [value - 0.02, value + 0.02] for measure, value in values.items()}

    return {
        "attention": row(0.3, 0.5 - faithful, 0.5 + faithful),
        "occlusion": row(precise, 0.45, 0.55),
        "chance": row(0.4, 0.5, 0.5),
        "center prior": row(0.6, 0.48, 0.52),
    }


def test_a_method_that_finds_the_moments_better_than_both_priors_comes_first():
    found = judge(figures(precise=0.7, faithful=0.3))
    assert found.method == "occlusion" and found.finds_when
    assert found.sentence == (
        "Of all methods, occlusion tells best when an attribute happens: its highest moment is right in 80 % of cases "
        "(the center of the clip in 70 %, chance 50 %), and its average precision is 0.70 (0.60, 0.40). What the "
        "answer rests on, attention tells best: with moments deleted and inserted in its order, the mean probability "
        "of the class is 0.20 and 0.80 (from the center outwards 0.48 and 0.52, at random 0.50 and 0.50). Measured "
        "on SynthGym, means of 2 models."
    )
    assert found.order(["attention", "occlusion", "rollout"]) == ["occlusion", "attention", "rollout"]


@pytest.mark.parametrize("precise", [0.5, 0.6])
def test_where_none_beats_the_center_of_the_clip_it_is_said(precise):
    found = judge(figures(precise=precise, faithful=0.3, kind="movement"))
    assert found.method == "attention" and not found.finds_when
    assert found.sentence.startswith(
        "No method tells when the movement of the class happens better than the center of the clip does. The best is "
        "occlusion: its highest moment is right in "
    )
    assert "What the answer rests on, attention tells best" in found.sentence


def test_better_on_average_but_not_in_every_model_is_not_enough():
    mixed = figures(precise=0.7, faithful=0.3)
    mixed["occlusion"]["attribute.average_precision"] = [0.57, 0.99]
    assert not judge(mixed).finds_when


def test_where_no_order_beats_chance_it_is_said():
    found = judge(figures(precise=0.5, faithful=-0.3))
    assert "No method tells when an attribute happens better than the center" in found.sentence
    mixed = figures(precise=0.5, faithful=-0.3)
    mixed["occlusion"] |= {"deletion": [0.5, 0.5], "insertion": [0.5, 0.5]}
    assert judge(figures(precise=0.3, faithful=0.3)).sentence.startswith(
        "No method tells when an attribute happens better than chance. The best is "
    )
    assert "Nor does one tell what the answer rests on better than an order without a model" in judge(mixed).sentence


def test_what_was_not_measured_is_not_trusted():
    found = trust_in("tqn")
    assert found.method is None and found.sentence == UNKNOWN
    assert found.order(["b", "a"]) == ["b", "a"]
