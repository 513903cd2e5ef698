"""The documented shell commands, typed as they stand there, mean the right thing in mongosh."""

import json
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

NODE = shutil.which("node")
RC_FILE = Path(__file__).parents[2] / "deploy" / "mongo" / "mongoshrc.js"

pytestmark = pytest.mark.skipif(NODE is None, reason="node is not installed")

# As much of mongosh as the file needs: collections with a prototype in common, whose methods tell how they were called.
FAKE_MONGOSH = """
const told = [];
class Collection { constructor(name) { this.name = name; } }
for (const method of ["updateOne", "updateMany", "findOne", "countDocuments", "aggregate"])
  Collection.prototype[method] = function (...given) { told.push([this.name, method, ...given]); };
globalThis.db = { getCollection: (name) => new Collection(name) };
const run = require("vm").runInThisContext;
"""

DISTRIBUTE_AGAIN = """
db.getCollection('objects').update({},
    { $set:
        {'distributed.status': False,
         'distributed.last_modified': utc_now()}
    },
    {multi: true}
)
"""
FORCE_REDO = """
db.getCollection('objects').update_one({'_id': '4_351_Yrsa_VIC_lp600_o_20160925_110427.040912'},
    { $set:
        {'pipelined.faint_star.status.force_redo': True,
         'pipelined.faint_star.last_modified': utc_now()}
    }
)
"""
CHANGE_OWNER = """
db.getCollection('objects').update({'science_program.program_id':'4'},
    { $set:
        {'science_program.program_PI': 'asteroids'}
    },
    {multi: true}
)
"""
REMOVE_PSF_LIBRARY = "db.getCollection('aux').update({}, {$unset: {'psf_lib': ''}}, {multi: true})"


def run_node(program: str) -> str:
    done = subprocess.run([NODE, "--eval", program], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def calls_of(command: str) -> list:
    """Return what a command calls on the collections: name, method, arguments."""
    scripts = json.dumps([RC_FILE.read_text(), command])
    return json.loads(
        run_node(f"{FAKE_MONGOSH} {scripts}.forEach((text) => run(text)); console.log(JSON.stringify(told))")
    )


def test_distribute_again():
    before = datetime.now(UTC)
    [[collection, method, query, change, options]] = calls_of(DISTRIBUTE_AGAIN)
    assert (collection, method, query, options) == ("objects", "updateMany", {}, {})
    assert change["$set"].pop("distributed.status") is False
    changed = datetime.fromisoformat(change["$set"].pop("distributed.last_modified"))
    assert abs((changed - before).total_seconds()) < 30  # the time node takes to start on a busy machine
    assert change == {"$set": {}}


def test_force_redo():
    [[collection, method, query, change]] = calls_of(FORCE_REDO)
    assert (collection, method) == ("objects", "updateOne")
    assert query == {"_id": "4_351_Yrsa_VIC_lp600_o_20160925_110427.040912"}
    assert change["$set"]["pipelined.faint_star.status.force_redo"] is True
    assert datetime.fromisoformat(change["$set"]["pipelined.faint_star.last_modified"]).tzinfo is not None


def test_change_owner():
    query, change = {"science_program.program_id": "4"}, {"$set": {"science_program.program_PI": "asteroids"}}
    assert calls_of(CHANGE_OWNER) == [["objects", "updateMany", query, change, {}]]


def test_remove_psf_library():
    assert calls_of(REMOVE_PSF_LIBRARY) == [["aux", "updateMany", {}, {"$unset": {"psf_lib": ""}}, {}]]


@pytest.mark.parametrize(
    ("command", "call"),
    [
        ("update({}, {$set: {a: None}})", ["updateOne", {}, {"$set": {"a": None}}, {}]),
        ("update({}, {$set: {a: 1}}, {upsert: True})", ["updateOne", {}, {"$set": {"a": 1}}, {"upsert": True}]),
        ("update_many({}, {$set: {a: 1}})", ["updateMany", {}, {"$set": {"a": 1}}]),
        ("find_one({a: True})", ["findOne", {"a": True}]),
        ("count_documents({})", ["countDocuments", {}]),
        ("findOne({})", ["findOne", {}]),
        ("aggregate([])", ["aggregate", []]),
    ],
)
def test_names_of_methods(command, call):
    assert calls_of(f"db.getCollection('objects').{command}") == [["objects", *call]]


def test_without_a_database():
    text = json.dumps(RC_FILE.read_text())
    no_database = 'Object.defineProperty(globalThis, "db", { get() { throw new Error("No connected database"); } });'
    assert run_node(f"{no_database} require('vm').runInThisContext({text}); console.log(True, False, None)") == (
        "true false null\n"
    )
