"""Where the sentences of a text end, by its punctuation.

A sentence ends at `.`, `!`, `?` or an ellipsis and any closing quotes and brackets, before white
space, unless what follows the space is a lower-case letter, a digit or a comma (a line break needs
no such sign); and at an empty line. A period ends none after a single letter (`J. Smith`), at the
end of a short word with several (`U.S.C.`), or after one of `ABBREVIATIONS`. Texts in scripts
without spaces end theirs at their own full stops.

`tasks/embedding/sentences.py` has the same rules for rows of token ids.
"""

import re

ABBREVIATIONS = (
    # parts of laws and books
    "Sec Secs sec secs Subsec Subsecs subsec subsecs Art Arts No Nos Vol Vols Ch Chs ch chs Chap "
    "Pt Pts pt pts Par Pars par pars Para Paras para paras Subch Tit tit Div Cl cl App Fig Figs Ex "
    "eff cf viz al seq vs ed eds pp op cit approx incl eg ie "
    # laws and where they are printed
    "Stat Stats Pub Priv Res Reg Regs Rel Fed Cong Sess Supp Amdt Ord Exec Proc Cir Dist Ct "
    # states
    "Ala Ariz Ark Cal Calif Colo Conn Del Fla Ga Ind Kan Mass Mich Minn Mo Mont Neb Nev Okla Ore "
    "Pa Tenn Tex Va Vt Wis Wyo "
    # bodies and titles
    "Inc Corp Co Cos Ltd Bros Assn Mfg Bd Comm Dept Mr Mrs Ms Dr Hon Rev Gen Gov Sen Rep Lt Col "
    "Capt Sgt Jr Sr St Ste Mt Ave Blvd Rd Bldg Rm "
    "Jan Feb Mar Apr Jun Jul Aug Sept Sep Oct Nov Dec"
)
"""Words after which a period is not the end of a sentence; also in capitals."""

CLOSERS = "\"'\u201d\u2019»)]}"  # with curly quotes
GOES_ON = ",;:.!?…)]}%"
MAX_WORD_LETTERS = 6  # of one with several periods

# the stops and closing marks of Chinese and Japanese by their numbers, for some look like ours
_END = re.compile(
    rf"(?P<stop>[.!?…]+)[{re.escape(CLOSERS)}]*(?P<space>\s+)"
    r"|[\u3002\uff01\uff1f\uff61]+[\u300d\u300f\uff09\u201d\u2019]*\s*"
    r"|\n[^\S\n]*\n\s*"
)
_LAST_WORD = re.compile(r"[\w.]{1,24}\Z")
_NAMES = frozenset(ABBREVIATIONS.split()) | frozenset(ABBREVIATIONS.upper().split())


def sentence_ends(text: str) -> list[int]:
    """Positions behind the ends, white space included, ascending."""
    return [match.end() for match in _END.finditer(text) if _is_end(text, match)]


def _is_end(text: str, match: re.Match[str]) -> bool:
    """Whether a sentence ends where there is a stop, or something that looks like one."""
    space = match["space"]
    if space is None or "\n" in space:
        is_broken = space is not None and space.count("\n") < 2
        if not is_broken:
            return True
    elif (following := text[match.end() : match.end() + 1]) and (
        following.islower() or following.isdigit() or following in GOES_ON
    ):
        return False
    if match["stop"] != ".":
        return True
    found = _LAST_WORD.search(text, max(match.start() - 24, 0), match.start())
    word = found[0] if found else ""
    has_several = "." in word and len(word.replace(".", "")) <= MAX_WORD_LETTERS
    is_letter = len(word) == 1 and word.isalpha()
    return not (word == "" or is_letter or has_several or word in _NAMES)
