"""Makes the built-in tasks `antonym` and `synonym` from WordNet's word pairs.

    python scripts/make_word_pairs.py WORDNET_FOLDER [--out FOLDER]

WORDNET_FOLDER holds `antonyms.tsv` and `synonyms.tsv` with the columns input, output, pos, tagcount_input and
tagcount_output (how often SemCor tags the word in the sense that the pair is about).

A pair becomes part of a task if WordNet has it, if both words are common single lower-case words, and if a person
read it and kept it. The lists of kept pairs below are that review: WordNet joins words that share any one sense, so
that most of its synonyms ("have make", "corner tree") mean nothing to a reader; archaic, technical and offensive pairs
are out; of pairs that a prefix negates ("usual unusual") only common ones are in. Every word stands in one kept pair,
and its partner is what a reader would say first, so that every prompt has one right answer.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

MIN_COUNT = 3
"""Both words must be tagged at least so often."""

KEPT_ANTONYMS = """
able unable; above below; absence presence; absent present; absolute relative; abstract concrete; accept reject;
acceptance rejection; active passive; acute chronic; add subtract; admit deny; advance retreat; agree disagree;
alive dead; amateur professional; answer question; appear disappear; appearance disappearance; arrive leave;
artificial natural; ascend descend; asleep awake; attach detach; attack defend; attract repel; attraction repulsion;
aunt uncle; aware unaware; back front; backward forward; bad good; beautiful ugly; begin end; beginning ending;
best worst; better worse; birth death; black white; bless curse; boil freeze; bold timid; borrow lend; bottom top;
boy girl; break repair; brother sister; buy sell; careful careless; certain uncertain; cheap expensive;
civilian military; clean dirty; close open; closing opening; cold hot; come go; comedy tragedy;
competition cooperation; complete incomplete; complex simple; complexity simplicity; complicate simplify;
conscious unconscious; conservative liberal; consonant vowel; constructive destructive; contract expand; cool warm;
criticize praise; cry laugh; danger safety; dangerous safe; dark light; daughter son; day night; decrease increase;
deep shallow; defeat victory; defense offense; demand supply; dependent independent; deposit withdraw; despair hope;
different same; difficult easy; direct indirect; discourage encourage; dislike like; dissuade persuade;
divide multiply; domestic foreign; double single; down up; downgrade upgrade; downstairs upstairs; downward upward;
dry wet; early late; east west; eastern western; employee employer; empty full; even odd; exclude include;
explicit implicit; export import; exterior interior; external internal; extraordinary ordinary; fail succeed;
failure success; fall rise; false true; familiar strange; far near; fast slow; father mother; female male;
feminine masculine; few many; figurative literal; fire hire; first last; float sink; foe friend; follower leader;
foolish wise; forbid permit; forget remember; former latter; found lost; friendly hostile; future past; gain loss;
general specific; give take; glad sad; gross net; guilt innocence; guilty innocent; happily sadly; hard soft;
harden soften; hate love; head tail; heavily lightly; here there; hide show; high low; hit miss; hopeful hopeless;
horizontal vertical; humble proud; humility pride; husband wife; impossible possible; inferior superior; inner outer;
inside outside; inward outward; joy sorrow; junior senior; king queen; known unknown; large small; least most;
left right; less more; likely unlikely; liquid solid; long short; loose tight; lose win; loudly softly; lower raise;
major minor; majority minority; man woman; maximize minimize; maximum minimum; meaningful meaningless;
mental physical; narrow wide; negative positive; new old; no yes; noisy quiet; north south; northern southern;
objective subjective; off on; often rarely; pain pleasure; peace war; penalty reward; permanently temporarily;
poor rich; poverty wealth; primary secondary; private public; privately publicly; pull push; qualitative quantitative;
quickly slowly; rough smooth; roughness smoothness; rural urban; shout whisper; sit stand; sleep wake; smart stupid;
sour sweet; start stop; strength weakness; strengthen weaken; strong weak; thick thin; unusual usual; useful useless
"""

KEPT_SYNONYMS = """
abandon desert; accomplish achieve; acknowledge admit; actual real; adapt adjust; address speech; advise notify;
affirm assert; afterward later; aim purpose; allow permit; almost nearly; also too; alter change; always constantly;
amount quantity; angry furious; announce declare; anticipate predict; anxious nervous; appear seem;
approximately roughly; area region; argue debate; ask inquire; assess evaluate; assist help; attempt try;
author writer; automobile car; average ordinary; await wait; award grant; battle fight; beam ray; begin start;
belief notion; believe think; belly stomach; benefit profit; big large; blend merge; blossom flower; boost promote;
boss chief; brain mind; bright brilliant; broad wide; bunch cluster; buy purchase; cause reason; cease terminate;
center middle; certain sure; certainly surely; chart graph; chase trail; child kid; choose select;
civilization culture; climb mount; close shut; cloth fabric; collect gather; common usual; competition contest;
component element; confine restrict; conflict struggle; connect link; consider weigh; considerably substantially;
continue proceed; correct right; cost price; country nation; crawl creep; create produce; crew gang; crouch squat;
cry weep; damage harm; danger risk; dawn morning; decision determination; decrease diminish; defy resist; delight joy;
depict portray; desire want; difficult hard; director manager; dirt soil; disappear vanish; disclose reveal;
discover find; display exhibit; dispute quarrel; district territory; doom fate; drill practice; drop fall;
duty obligation; echo repeat; effective efficient; emphasis stress; employ hire; endeavor strive; enemy foe;
equal match; error mistake; especially particularly; essential necessary; evidently obviously; exact precise;
exactly precisely; example instance; excess surplus; execute perform; external outside; faint vague; fair just;
faith religion; fashion style; fast quick; favor prefer; film movie; final last; firm steady; fog mist;
following next; forest woods; former previous; fortune luck; frequently often; fulfill satisfy; furthermore moreover;
gasp pant; gaze stare; gently softly; get obtain; gift talent; glad happy; glance glimpse; govern regulate;
grab snatch; grasp grip; grin smile; halt stop; happen occur; hardly scarcely; haste hurry; hesitate pause;
holiday vacation; home house; however nevertheless; howl roar; huge vast; humor wit; idea thought; ill sick;
immediately instantly; important significant; individual person; injure wound; insane mad; inside interior;
instruct teach; interpret translate; job task; jump leap; kind sort; largely mostly; likely probably; little small;
main principal; mainly primarily; manner way; maybe perhaps; melody tune; menace threaten; merely simply;
mighty powerful; motion movement; murmur mutter; need require; new novel; newspaper paper; normally usually;
objective target; observe watch; opinion view; outline sketch; outlook prospect; owner proprietor; pace stride;
panic terror; part section; particular special; pay salary; phone telephone; photograph picture; pond pool;
possible potential; precious valued; preserve uphold; propose suggest; protection security; provide supply;
quickly rapidly; rarely seldom; realize recognize; really truly; recall remember; recover retrieve; refuse reject;
relation relative; remain stay; reply respond; road route; rub wipe; search seek; shiver tremble; shop store;
shortly soon; shout yell; slender thin; slightly somewhat; smart wise; speak talk; spectator witness; stagger stumble;
sway swing; test trial; therefore thus; triumph victory; use utilize; war warfare
"""

Pair = tuple[str, str]


def parse_kept(text: str) -> list[Pair]:
    """The kept pairs of a review, each word in one pair only."""
    pairs: list[Pair] = []
    seen: set[str] = set()
    for entry in text.replace("\n", " ").split(";"):
        first, second = entry.split()
        if seen & {first, second}:
            raise SystemExit(f"A word of {entry.strip()!r} is in another kept pair already: keep one of the two.")
        seen |= {first, second}
        pairs.append((first, second))
    return pairs


def is_word(text: str) -> bool:
    """Whether `text` is a single lower-case alphabetic word."""
    return text.isascii() and text.isalpha() and text.islower()


def read_common_pairs(path: Path) -> set[Pair]:
    """The directed pairs of a WordNet table in which both words are common, single, lower-case words."""
    common: set[Pair] = set()
    with path.open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream, delimiter="\t"):
            first, second = row["input"], row["output"]
            count = min(int(row["tagcount_input"]), int(row["tagcount_output"]))
            if is_word(first) and is_word(second) and count >= MIN_COUNT:
                common.add((first, second))
    return common


def select_pairs(common: set[Pair], kept: list[Pair]) -> list[Pair]:
    """The kept pairs in both directions, sorted; refuses a kept pair that is not among the common ones."""
    directed = sorted({pair for first, second in kept for pair in ((first, second), (second, first))})
    missing = [pair for pair in directed if pair not in common]
    if missing:
        raise SystemExit(f"Kept, but not among WordNet's common pairs: {missing}. Strike them from the list.")
    return directed


def write_pairs(path: Path, pairs: list[Pair]) -> None:
    """Writes a task file: a header, then one pair a line."""
    lines = ["input\toutput", *(f"{first}\t{second}" for first, second in pairs)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    """Reads the WordNet tables and writes the two task files."""
    parser = argparse.ArgumentParser(description="Make the built-in tasks antonym and synonym from WordNet's pairs.")
    parser.add_argument("wordnet", type=Path, help="folder with antonyms.tsv and synonyms.tsv")
    default = Path(__file__).resolve().parents[1] / "src" / "layertracer" / "tasks" / "data"
    parser.add_argument("--out", type=Path, default=default, help="folder to write to (default: %(default)s)")
    arguments = parser.parse_args()
    for task, table, kept in (
        ("antonym", "antonyms.tsv", KEPT_ANTONYMS),
        ("synonym", "synonyms.tsv", KEPT_SYNONYMS),
    ):
        common = read_common_pairs(arguments.wordnet / table)
        pairs = select_pairs(common, parse_kept(kept))
        write_pairs(arguments.out / f"{task}.tsv", pairs)
        print(f"{task}: {len(pairs)} directed pairs kept of {len(common)} common ones")


if __name__ == "__main__":
    main()
