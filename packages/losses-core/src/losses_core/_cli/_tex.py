r"""Formulas in LaTeX as text: `\frac{1}{1+e^{-x}}` as `1/(1+e^(-x))`."""

from __future__ import annotations

import re
from collections.abc import Callable
from unicodedata import normalize


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_LETTERS = (
    "alpha α beta β gamma γ delta δ epsilon ε varepsilon ε zeta ζ eta η theta θ vartheta θ iota ι kappa κ lambda λ "
    "mu μ nu ν xi ξ pi π rho ρ sigma σ tau τ upsilon υ phi φ varphi φ chi χ psi ψ omega ω Gamma Γ Delta Δ Theta Θ "
    "Lambda Λ Xi Ξ Pi Π Sigma Σ Upsilon Υ Phi Φ Psi Ψ Omega Ω ell ℓ infty ∞ partial ∂ nabla ∇ emptyset ∅ top ᵀ"
)
_OPERATORS = (
    "sum ∑ prod ∏ int ∫ bigcup ⋃ bigcap ⋂ in ∈ notin ∉ ne ≠ neq ≠ le ≤ leq ≤ ge ≥ geq ≥ ll ≪ gg ≫ "
    "approx ≈ equiv ≡ sim ∼ "
    "propto ∝ subset ⊂ subseteq ⊆ cup ∪ cap ∩ setminus ∖ times × cdot · odot ⊙ oplus ⊕ otimes ⊗ circ ∘ pm ± mp ∓ "
    "to → rightarrow → gets ← leftarrow ← Rightarrow ⇒ mapsto ↦ land ∧ lor ∨ neg ¬ forall ∀ exists ∃ angle ∠ "
    "dots … ldots … cdots … mid | vert | Vert ‖ langle ⟨ rangle ⟩ lfloor ⌊ rfloor ⌋ "
    "lceil ⌈ rceil ⌉ colon : prime ′"
)
_pairs = f"{_LETTERS} {_OPERATORS}".split()
GLUE = "\x01"  # no space beside it
SYMBOLS = dict(zip(_pairs[::2], _pairs[1::2], strict=True)) | {
    "lvert": f"|{GLUE}",
    "rvert": f"{GLUE}|",
    "lVert": f"‖{GLUE}",
    "rVert": f"{GLUE}‖",
}
FUNCTIONS = _words(
    "log ln exp max min sup inf arg det sin cos tan arcsin arccos arctan sinh cosh tanh Pr lim argmax argmin"
)
WORDS = _words("text textrm textbf textit mathrm mathbf mathit mathsf mathcal mathbb boldsymbol bm")
ACCENTS = {"hat": "\u0302", "widehat": "\u0302", "tilde": "\u0303", "widetilde": "\u0303", "bar": "\u0304"} | {
    "overline": "\u0304",
    "dot": "\u0307",
    "vec": "\u20d7",
}
SIZES = re.compile(r"(left|right|middle|[bB]igg?[lrm]?)$")
SPACES = {",": " ", ";": " ", ":": " ", " ": " ", "!": "", "quad": "  ", "qquad": "\n", "\\": "\n"}
FRACTIONS = frozenset(("\\frac", "\\tfrac", "\\dfrac", "\\cfrac"))
TOKEN = re.compile(r"\\[a-zA-Z]+\*?|\\.|\s+|.", re.DOTALL)
DOUBLE_STRUCK = {"R": "ℝ", "N": "ℕ", "Z": "ℤ", "E": "𝔼", "P": "ℙ", "C": "ℂ", "1": "𝟙"}
POWERS = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


def as_text(formula: str) -> str:
    r"""A formula as text; lines where it has ``\\`` or ``\qquad``. Unknown commands are omitted or kept as they are.

    Example:
        >>> as_text(r"l = -\alpha_t (1-p_t)^\gamma \log p_t")
        'l = -α_t (1-p_t)^γ log p_t'
        >>> as_text(r"\frac{2 \sum_i p_{ni}\, g_i}{\lVert x \rVert^2}")
        '(2 ∑_i p_ni g_i)/‖x‖²'
    """
    text = _Reader(formula).until("")
    lines = (re.sub(r"\s+", " ", line).strip(" ,;") for line in text.split("\n"))
    return normalize("NFC", "\n".join(_spaced(line) for line in lines if line))


def _spaced(line: str) -> str:
    line = re.sub(rf" *{GLUE} *", "", line)
    line = re.sub(r"([(\[⟨⌊⌈]) +", r"\1", line)
    return re.sub(r" +([)\]⟩⌋⌉,;])", r"\1", line)


class _Reader:
    """The tokens of a formula, read from the left."""

    def __init__(self, formula: str) -> None:
        self.tokens = TOKEN.findall(formula)[::-1]
        self.bar_is_open = False

    def until(self, end: str) -> str:
        """The text up to a token; that of the rest for an empty one."""
        found: list[str] = []
        while self.tokens and self.tokens[-1] != end:
            of_function = "".join(found).rstrip()[-6:].lower().endswith(tuple(FUNCTIONS))
            is_fraction = self.tokens[-1] in FRACTIONS
            part = self.part()
            if of_function and is_fraction:
                part = f"({part})"
            elif found and _run_together(found[-1], part):
                found.append(" ")
            found.append(part)
        if self.tokens:
            self.tokens.pop()
        return "".join(found)

    def part(self) -> str:
        """The text of the next token with what belongs to it."""
        token = self.tokens.pop()
        if token.startswith("\\"):
            return self.command(token[1:].rstrip("*"))
        if token == "{":
            return self.until("}")
        if token in "^_":
            return _script(token, self.argument())
        return {"&": "\t", "~": " ", "}": "", "$": ""}.get(token, " " if token.isspace() else token)

    def argument(self) -> str:
        """The next group or token."""
        self.skip_spaces()
        return self.part().strip() if self.tokens else ""

    def raw(self) -> str:
        """The source of the next group, as it is."""
        self.skip_spaces()
        depth, found = 0, []
        while self.tokens:
            token = self.tokens.pop()
            depth += {"{": 1, "}": -1}.get(token, 0)
            found.append(token)
            if depth == 0:
                break
        return "".join(found).removeprefix("{").removesuffix("}")

    def skip_spaces(self) -> None:
        while self.tokens and self.tokens[-1].isspace():
            self.tokens.pop()

    def command(self, name: str) -> str:
        if name in SPACES:
            return SPACES[name]
        if name in SYMBOLS:
            return f" {SYMBOLS[name]} " if name in _RELATIONS else SYMBOLS[name]
        if name in FUNCTIONS:
            return name
        if name == "operatorname":
            return self.raw()
        if name in WORDS:
            word = self.raw()
            return DOUBLE_STRUCK.get(word, word) if name == "mathbb" else as_words(word)
        if SIZES.match(name):
            return self.sized(name)
        reader = _COMMANDS.get(name)
        if reader is not None:
            return reader(self)
        if name in ACCENTS:
            text = self.argument()
            return text + ACCENTS[name] if len(text) == 1 else f"{name}({text})"
        return "‖" if name == "|" else name

    def sized(self, name: str) -> str:
        """A delimiter after the command that gives its size; bars are glued to what they enclose."""
        self.skip_spaces()
        delimiter = self.tokens[-1] if self.tokens else ""
        if delimiter == ".":  # \left. has none
            self.tokens.pop()
        if delimiter not in ("|", "\\|"):
            return ""
        self.tokens.pop()
        bar = "‖" if delimiter == "\\|" else "|"
        closes = name == "right" or name.endswith("r") or (not name.endswith(("l", "left")) and self.bar_is_open)
        self.bar_is_open = not closes
        return f"{GLUE}{bar}" if closes else f"{bar}{GLUE}"

    def fraction(self) -> str:
        return f"{_bracketed(self.argument())}/{_bracketed(self.argument())}"

    def root(self) -> str:
        return f"√{_bracketed(self.argument())}"

    def environment(self) -> str:
        """`cases`, `aligned` and the like: a line for each row."""
        name = self.raw()
        rows = self.until("\\end")
        self.raw()
        if "cases" not in name:
            return rows
        return f"{{ {'; '.join(_case(row) for row in rows.split(chr(10)) if row.strip())} }}"

    def binomial(self) -> str:
        return f"C({self.argument()}, {self.argument()})"

    def skipped(self) -> str:
        return ""

    def without_argument(self) -> str:
        self.raw()
        return ""


_COMMANDS: dict[str, Callable[[_Reader], str]] = {
    **dict.fromkeys(("frac", "tfrac", "dfrac", "cfrac"), _Reader.fraction),
    "sqrt": _Reader.root,
    "begin": _Reader.environment,
    "binom": _Reader.binomial,
    **dict.fromkeys(("displaystyle", "limits", "nolimits", "nonumber", "textstyle"), _Reader.skipped),
    **dict.fromkeys(("label", "tag"), _Reader.without_argument),
    **dict.fromkeys(("underbrace", "overbrace", "mathop", "mathbin", "mathrel"), _Reader.argument),
}
_RELATIONS = _words("in notin ne neq le leq ge geq ll gg approx equiv sim propto to rightarrow cup cap cdot")
"""Symbols with a space on both sides."""


def as_words(text: str) -> str:
    """Text within a formula, which may hold formulas between dollar signs."""
    return re.sub(r"\$([^$]*)\$", lambda match: as_text(match[1]), text).replace("\\", "")


def _run_together(before: str, after: str) -> bool:
    """Whether a space has to be set: after the name of a function, and before it."""
    if not before or not after or before[-1].isspace() or after[0].isspace():
        return False
    name_before, name_after = (bool(re.fullmatch(r"[^\W\d_]{2,}", part)) for part in (before, after))
    opens = after[0].isalnum() or (before in FUNCTIONS and after[0] in "√∑∏‖|")
    return (name_before and opens) or (name_after and before[-1].isalnum())


def _case(row: str) -> str:
    value, _, condition = (part.strip(" ,") for part in row.partition("\t"))
    if not condition:
        return value
    return (
        f"{value} {condition}" if re.match(r"(if|for|when|else|otherwise)\b", condition) else f"{value} if {condition}"
    )


def _script(kind: str, text: str) -> str:
    if kind == "^" and re.fullmatch(r"-?[0-9]+", text):
        return text.translate(POWERS)
    if kind == "^" and text in ("ᵀ", "′", "*"):
        return text
    if re.fullmatch(r"[^\W_]+[\u0300-\u036f′]*|[*+-]|\([^()]*\)", text):
        return f"{kind}{text}"
    return f"{kind}({text})"


def _bracketed(text: str) -> str:
    """A text in brackets, unless it is one symbol, call or bracket."""
    text = text.strip()
    whole = re.fullmatch(r"[^\s+\-−*/·,=<>()|‖]*[(‖|][^()‖|]*[)‖|][⁰-⁹²³]?|[^\s+\-−*/·,=<>()]+", text)
    return text if whole else f"({text})"
