"""What the synthetic people say: endless plain English from small grammars, and numbers and dates in many languages."""

from __future__ import annotations

import numpy as np

ENGLISH = ("en-us", "en", "en-gb-scotland", "en-gb-x-rp", "en-gb-x-gbclan", "en-029")
# Any of them reads digits aloud in its own words, which gives every sound of the language without a text corpus.
OTHERS = (
    "de", "fr", "es", "es-419", "it", "pt", "pt-br", "nl", "pl", "sv", "tr", "cs", "fi", "hu", "ro", "el", "ru",
    "hi", "id", "ar", "ja", "ko",
)  # fmt: skip
# Variants of espeak-ng that sound like people rather than effects.
VARIANTS = (
    "f1", "f2", "f3", "f4", "f5", "m1", "m2", "m3", "m4", "m6", "m7", "m8", "Alex", "Alicia", "Andrea", "Andy",
    "Annie", "Denis", "Diogo", "Hugo", "Lee", "Marco", "Mario", "Michael", "adam", "anika", "antonio", "belinda",
    "benjamin", "boris", "david", "edward", "gustave", "iven", "john", "linda", "max", "michel", "pablo", "paul",
    "pedro", "quincy", "rob", "robert", "shelby", "steph", "travis", "victor", "zac",
)  # fmt: skip

# One row for each sentence of the sample: written so that lips meet, part, spread and round often.
SAMPLE = (
    "Good morning, and welcome to the workshop.",
    "My name is Pam, and I am only made of numbers.",
    "Nobody filmed me, but my lips move with every word.",
    "Please watch my mouth while you listen to my voice.",
    "Maybe the picture and the sound have come apart.",
    "People find a small delay before they can name it.",
    "Somebody has to measure how far apart they are.",
    "A hammer falls far away, and the blow comes later.",
    "The same happens with a slow microphone or a long cable.",
    "Five boats went past the bridge before the fog moved in.",
    "We both bought a map, a lamp, and a box of apples.",
    "Fifty people may move, but the voice follows them.",
    "Of all delays, a voice before its lips is the worst.",
    "In the real world, no voice is faster than its lips.",
    "Big cameras buffer many frames, and so fall behind.",
    "You may pay for a better box, or measure and move on.",
    "Both numbers are shown below, with how sure we may be.",
    "Thank you for watching, and goodbye from the both of us.",
    "Maybe move it back.",
    "Oh, wait a moment.",
    "Perhaps we will.",
    "Watch my lips move.",
)

_WHO = (
    "my mother", "the baker", "a young farmer", "our neighbour", "the old pilot", "everybody", "nobody",
    "a woman from Boston", "the captain", "my best friend", "the weather man", "a famous painter", "Bob", "Vivian",
    "the members of the band", "both of them", "the people from the village", "a very big bear", "the new teacher",
    "this piano player",
)  # fmt: skip
_DOES = (
    "bought", "found", "moved", "opened", "watched", "put away", "brought back", "painted", "forgot", "broke",
    "followed", "pushed", "wanted", "made", "borrowed", "showed me", "talked about", "walked past", "paid for",
    "liked",
)  # fmt: skip
_WHAT = (
    "a loaf of bread", "the blue boat", "five apples", "a map of the mountains", "the wooden bridge",
    "a warm blanket", "my favourite book", "the broken window", "a bowl of soup", "two empty bottles", "the paper",
    "a beautiful watch", "some old photographs", "the film", "a piece of paper", "the whole problem", "a shoe shop",
    "that huge pumpkin",
)  # fmt: skip
_WHEN = (
    "in the morning", "before the summer", "after a while", "on Wednesday", "by the river", "for the first time",
    "last February", "with both hands", "at the bus stop", "very slowly", "without a word",
    "in front of the church", "as usual", "because of the weather", "above the valley", "every now and then",
    "for a moment", "",
)  # fmt: skip
_ASIDE = (
    "Well, I think", "You know,", "As far as I know,", "Of course,", "I was told that", "We all saw how",
    "By the way,", "They say", "Believe it or not,", "To be fair,", "Perhaps", "Now and then", "", "", "", "",
)  # fmt: skip
_SHORT = (
    "Of course.", "Maybe.", "That would be fine.", "Why not?", "Not for me.", "I believe so.",
    "Wait a moment, please.", "What a view!", "Move over.", "Oh, how wonderful.", "Give me five more.",
    "We shall see.", "Thank you very much.",
)  # fmt: skip


def random_sentence(rng: np.random.Generator, language: str, *, short: bool = False) -> str:
    """One sentence for a voice of `language`: English for English voices, digits to be read aloud for all others."""
    if language not in ENGLISH:
        return _numbers(rng, short=short)
    if short:
        return str(rng.choice(_SHORT))
    parts = [str(rng.choice(words)) for words in (_ASIDE, _WHO, _DOES, _WHAT, _WHEN)]
    if rng.random() < 0.15:
        parts.append(f"and paid {rng.integers(2, 1000)} for it")
    sentence = " ".join(part for part in parts if part)
    return sentence[0].upper() + sentence[1:] + "."


def _numbers(rng: np.random.Generator, *, short: bool) -> str:
    count = 1 if short else int(rng.integers(2, 5))
    return ", ".join(str(rng.integers(1, 10 ** int(rng.integers(1, 5)))) for _ in range(count)) + "."
