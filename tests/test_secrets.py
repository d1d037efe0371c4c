"""Secrets: found by reference, handed over outside the notebook, and never written down, in no spelling."""

import base64
import html
import json
import os
import re
import signal
import urllib.parse
from pathlib import Path
from typing import Any

import pytest
from projects import Project, holding, wait_until

PASSWORD = 'hunter2/Zebra&9 "ä\''
TOKEN = "tok-4f9Qz7Lm2Xc8Vb1Nn6Ss3Dd5Ff0Gg9Hh8Jj7Kk6Ll5Qq4Ww3Ee2Rr1Tt0Yy-end"
IMPORTS = "from mlops_nb.contract import Secret\nfrom mlops_nb.secrets import reveal"
SECRETS = """password: Secret = "env:DB_PASSWORD"  # Password of the bureau
token: Secret = "env:DB_TOKEN"  # Token of the bureau"""

LEAKS = {
    "print": "print(value)",
    "stderr": "import sys\nprint(value, file=sys.stderr)",
    "in pieces": "for part in (value[:3], value[3:8], value[8:]):\n    print(part, end='', flush=True)\n"
                 "    time.sleep(0.3)",
    "repr": "print(repr(str(value)))",
    "dictionary": "print({'password': str(value)})",
    "json": "print(json.dumps({'password': value}), json.dumps(json.dumps([value])))",
    "base64": "print(base64.b64encode(value.encode()).decode())",
    "basic authentication": "print('Authorization: Basic ' + base64.b64encode(('me:' + value).encode()).decode(), "
                            "base64.urlsafe_b64encode(('you:' + value + ':').encode()))",
    "address": "print('postgresql://me:' + quote(value, safe='') + '@host/db')",
    "query": "print('https://host/?' + urlencode({'password': value}))\n"
             "print(re.sub('%..', lambda code: code[0].lower(), quote(value)))",
    "hexadecimal": "print(value.encode().hex(), value.encode())",
    "html": "display(HTML('<b>' + html.escape(value) + '</b>'))",
    "markdown": "display(Markdown('**' + value + '**'))",
    "json output": "display(JSON({'password': value, value: 1}))",
    "logging": "logging.basicConfig(force=True)\nlogging.warning('login with %s failed', value)",
    "warnings": "warnings.warn('bad password ' + value)",
    "another program": "done = subprocess.run(['echo', value])\ntime.sleep(0.5)",
    "a shell": "done = os.system('echo \"$DB_PASSWORD\"')\ntime.sleep(0.5)",
    "past the kernel": "sys.__stderr__.write(value + chr(10))\nos.write(2, value.encode())\n"
                       "print('«secret fetch.password»')",
    "metadata": "display('x', metadata={'note': value})",
    "result": "str(value)",
    "table": "pd.DataFrame({'said': [str(value), 'cut: ' + reveal(token)]})",
    "picture": "from matplotlib.figure import Figure\nfigure = Figure()\nfigure.suptitle(value)\nout = io.StringIO()\n"
               "plt_params.update({'svg.fonttype': 'none'})\nfigure.savefig(out, format='svg')\n"
               "display(SVG(out.getvalue()))",
    "update": "handle = display('nothing', display_id=True)\nhandle.update(str(value))",
    "source": f"pasted = {PASSWORD!r}\nprint('«secret fetch.password»')",
    "environment": "print(dict(os.environ))",
    "cut short": "print(reveal(token)[:40] + '...')",
    "stack": "def connect(password):\n    raise ConnectionError('refused: ' + password)\ntry:\n    connect(value)\n"
             "except ConnectionError:\n    traceback.print_exc()",
    "widget": "import ipywidgets\ndisplay(ipywidgets.Text(str(value)))\nprint('«secret fetch.password»')",
}
TOOLS = """import base64, html, io, json, logging, os, re, subprocess, sys, time, traceback, warnings
from urllib.parse import quote, urlencode
import pandas as pd
from IPython.display import HTML, JSON, Markdown, SVG, display
from matplotlib import rcParams as plt_params
value = reveal(password)"""


def spellings(value: str) -> set[bytes]:
    """How a value may stand in a file; made here without the code under test."""
    raw = value.encode()
    found = {value, repr(value)[1:-1], json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1],
             json.dumps(json.dumps(value))[3:-3], html.escape(value), html.escape(value, quote=False),
             repr(raw)[2:-1], raw.hex(), raw.hex().upper(),
             *(urllib.parse.quote(value, safe=safe) for safe in ("/", "")), urllib.parse.quote_plus(value)}
    found |= {re.sub("%..", lambda code: code[0].lower(), each) for each in found}
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for before in range(3):
            found.add(encode(bytes(before) + raw).decode()[(0, 2, 3)[before]:(before + len(raw)) * 8 // 6])
    return {each.encode() for each in found} | {json.dumps(each)[1:-1].encode() for each in found}


TRACES = spellings(PASSWORD) | spellings(TOKEN) | {PASSWORD[:10].encode(), TOKEN[8:28].encode(), TOKEN[30:50].encode()}


def find_traces(project: Project, *said: str) -> list[str]:
    """Where a value still stands: in files of the state folder (the database too), or in what was said."""
    texts = {str(path): path.read_bytes() for path in sorted(project.state.rglob("*")) if path.is_file()}
    texts |= {f"output {number}": text.encode() for number, text in enumerate(said)}
    return [f"{name}: {trace!r}" for name, text in texts.items() for trace in TRACES if trace in text]


@pytest.fixture
def guarded(project: Project) -> Project:
    """A project whose runs have a password and a token in their environment."""
    project.environment |= {"DB_PASSWORD": PASSWORD, "DB_TOKEN": TOKEN}
    return project


def write_leaks(project: Project) -> None:
    """Stages that leak in every way that a stage can."""
    leaks = [f"# {name}\n{code}" for name, code in LEAKS.items()]
    project.stage("01_fetch", SECRETS + '\ntable: Output = "table"', TOOLS, *leaks, "save(table, [1])", imports=IMPORTS)
    project.stage("02_raise", SECRETS, "value = reveal(password)",
                  f"print('before')\ncheck = {PASSWORD!r} == value\n"
                  "raise ValueError('wrong password ' + value + repr(str(value)))",
                  imports=IMPORTS)
    project.stage("03_killed", SECRETS, "import os, time\nprint(reveal(password), flush=True)\n"
                  "os.system('echo \"$DB_TOKEN\" >&2')\ntime.sleep(0.5)\nos.kill(os.getpid(), 9)", imports=IMPORTS)
    project.stage("04_keep", SECRETS + '\nconfig: Output = "config"',
                  "save(config, {'url': 'x://me:' + reveal(password) + '@host'})", imports=IMPORTS)
    project.stage("05_table", SECRETS + '\nrows: Output = "rows"', "import pandas as pd\n"
                  "save(rows, pd.DataFrame({'password': ['none', reveal(password)]}))", imports=IMPORTS)
    project.stage("06_other", 'number: Output = "number"', "import os\nprint(dict(os.environ))", "save(number, [1])")


def outputs_of(notebook: dict[str, Any], name: str) -> str:
    """Everything that came out of the cell of a leak, as text."""
    cell = next(one for one in notebook["cells"] if "".join(one["source"]).startswith(f"# {name}\n"))
    return json.dumps(cell["outputs"], ensure_ascii=False)


def test_nothing_that_is_written_or_said_holds_a_secret(guarded, monkeypatch):
    monkeypatch.delenv("PYTEST_CURRENT_TEST")  # with it, ipykernel does not watch what other programs print
    write_leaks(guarded)
    answer = guarded.call("run", "--json")
    assert answer.code == 1
    assert not find_traces(guarded, answer.out, answer.err)
    assert len(LEAKS) >= 20
    notebook = guarded.output("fetch")
    for name in LEAKS:
        assert "«secret fetch." in outputs_of(notebook, name), f"nothing leaked by {name}, or not as was meant"
    folder = guarded.state / "runs" / guarded.status()["run"]
    assert "«secret fetch.password»" in (folder / "01_fetch.log").read_text("utf-8")
    assert "«secret fetch.password»" in (folder / "01_fetch.html").read_text("utf-8"), "the page of the notebook"
    assert "pasted = " in (folder / "01_fetch.ipynb").read_text("utf-8")
    events = map(json.loads, answer.out.splitlines())
    ended = {event["stage"]: event for event in events if event["event"] == "stage-ended"}
    assert {stage: event["status"] for stage, event in ended.items()} == {
        "fetch": "done", "raise": "failed", "killed": "failed", "keep": "failed", "table": "failed", "other": "done"}
    assert "wrong password «secret raise.password»" in ended["raise"]["error"]["message"]
    assert "«secret raise.password»" in ended["raise"]["error"]["source"]
    assert "«secret raise.password»" in ended["raise"]["error"]["traceback"]
    assert "SIGKILL" in ended["killed"]["error"]["message"]
    for stage in ("keep", "table"):
        assert f"the secret `{stage}.password`, and is not kept" in ended[stage]["error"]["message"]
    assert "«secret" in json.dumps(guarded.output("other"), ensure_ascii=False), "the environment shows others' secrets"
    said = guarded.call("run")
    assert said.code == 1 and not find_traces(guarded, said.said) and "«secret raise.password»" in said.out
    status = guarded.ask("status")
    assert not find_traces(guarded, status.out)


def test_an_interrupted_run_leaves_no_secret(guarded):
    guarded.stage("01_wait", SECRETS, "print(reveal(password), flush=True)\n" + holding(), imports=IMPORTS)
    guarded.hold()
    process = guarded.start("run", "--json")
    guarded.wait_for_kernel()
    places = [Path("/proc", str(pid), name) for pid in guarded.living() for name in ("cmdline", "environ")]
    handed = [path for path in places if any(PASSWORD.encode() in part and not part.startswith(b"DB_PASSWORD=")
                                             for part in path.read_bytes().split(b"\0"))]
    assert not handed, "a value is an argument, or under another name in an environment"
    os.kill(process.pid, signal.SIGINT)
    answer = guarded.finish(process)
    assert answer.code == 130 and not find_traces(guarded, answer.out, answer.err)


def test_a_reference_is_looked_up_where_it_says(guarded):
    (guarded.root / "keys").mkdir()
    (guarded.root / "keys" / "db").write_text(PASSWORD + "\n", "utf-8")
    (guarded.root / "vault.py").write_text(
        "from keyring.backend import KeyringBackend\nclass Vault(KeyringBackend):\n    priority = 1\n"
        "    def get_password(self, service, user):\n"
        f"        return {TOKEN!r} if (service, user) == ('weather/ny', 'me') else None\n"
        "    set_password = delete_password = None\n")
    guarded.environment |= {"PYTHON_KEYRING_BACKEND": "vault.Vault", "PYTHONPATH": str(guarded.root)}
    guarded.stage("01_fetch", 'password: Secret = "file:keys/db"\ntoken: Secret = "keyring:weather/ny/me"\n'
                  'same: Output = "same"', "import os\nprint(password, reveal(password))",
                  "right = [os.environ[name] for name in ('DB_PASSWORD', 'DB_TOKEN')]\n"
                  "save(same, [reveal(password) == right[0], reveal(token) == right[1]])", imports=IMPORTS)
    guarded.run()
    printed = guarded.output("fetch")["cells"][3]["outputs"][0]["text"]
    assert "".join(printed) == "file:keys/db «secret fetch.password»\n"
    assert json.loads(guarded.ask("show", "fetch.same").out.split("\n\n", 1)[1]) == [True, True]
    assert not find_traces(guarded)
    guarded.environment["DB_PASSWORD"] = "x" * 9
    (guarded.root / "keys" / "db").write_text("another", "utf-8")
    assert "reused" in guarded.run(), "a value does not count in the fingerprint"
    guarded.environment["DB_OTHER"] = "wholly-different"
    assert "env:DB_OTHER" in guarded.run("-p", "fetch.password=env:DB_OTHER"), "a reference does"
    rows = guarded.query("SELECT * FROM stage_runs ORDER BY rowid")
    assert json.loads(rows[-1]["parameters"])["password"] == "env:DB_OTHER"


def test_what_is_missing_or_misplaced_is_refused_before_anything_runs(guarded):
    guarded.stage("01_fetch", SECRETS + '\nport: int = 1\nurl: str = ""', "1", imports=IMPORTS)
    literal = guarded.refuse("-p", f"fetch.password={PASSWORD}")
    assert "fetch.password" in literal and "env:NAME, file:PATH or keyring:SERVICE/USER" in literal
    missing = {"env:NO_SUCH": "export NO_SUCH=", "file:no/such": "does not exist", "keyring:no/such": "keyring",
               "env:SHORT": "shorter than 4"}
    guarded.environment |= {"SHORT": "abc", "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring"}
    for reference, mend in missing.items():
        said = guarded.refuse("-p", f"fetch.password={reference}")
        assert f"fetch.password: `{reference}`" in said and mend in said
    wrong = guarded.refuse("-p", f"fetch.port={PASSWORD}")
    assert "fetch.port: '«secret fetch.password»' is not int" in wrong.replace("\n", "")
    misplaced = guarded.refuse("-p", f"fetch.url=postgresql://me:{urllib.parse.quote(PASSWORD, safe='')}@host")
    assert "fetch.url holds the value of the secret `fetch.password`" in misplaced
    assert not [trace for trace in TRACES if trace in (literal + wrong + misplaced).encode()]
    guarded.stage("01_fetch", f"password: Secret = {PASSWORD!r}", "1", imports=IMPORTS)
    said = guarded.refuse()
    assert "01_fetch.ipynb, cell 3, line 1" in said and "hunter2" not in said


def test_a_stage_gets_the_secrets_that_it_declares_and_no_others(guarded):
    guarded.stage("01_fetch", SECRETS, "reveal('env:HOME')", imports=IMPORTS)
    guarded.stage("02_none", "", "reveal('env:DB_PASSWORD')", imports=IMPORTS)
    said = guarded.run(code=1)
    assert "`env:HOME` is revealed in a run but is not a Secret" in said
    assert "`env:DB_PASSWORD` is revealed in a run but is not a Secret" in said


def test_at_work_a_secret_is_looked_up_at_once_and_its_repr_is_silent(guarded):
    guarded.stage("01_fetch", SECRETS, "1", imports=IMPORTS)
    answer = guarded.python("from mlops_nb.secrets import reveal\npassword = reveal('env:DB_PASSWORD')\n"
                            "import os\nassert password == os.environ['DB_PASSWORD']\nprint([password])")
    assert (answer.out, answer.err) == ("[«secret»]\n", "")


def test_the_contract_says_what_is_secret(guarded):
    guarded.stage("01_fetch", SECRETS, "1", imports=IMPORTS)
    assert "password  secret" in guarded.ask("stages", "fetch").said
    schema = json.loads(guarded.ask("stages", "fetch", "--json").out)[0]["properties"]["password"]
    assert schema == {"type": "string", "format": "password", "writeOnly": True, "default": "env:DB_PASSWORD",
                      "description": "Password of the bureau"}


def test_a_notebook_that_is_executed_alone_gets_its_secrets(guarded):
    """And hides them, also in what is shown while it runs, and in the log."""
    path = guarded.stage("01_fetch", SECRETS, "import os\nprint(reveal(password), flush=True)\nreveal(token)",
                         "os.write(2, reveal(password).encode())", imports=IMPORTS)
    answer = guarded.ask("execute", str(path), "out.ipynb", "--show-output")
    assert answer.code == 0, answer.said
    said = [answer.said, *(each.read_text("utf-8") for each in guarded.root.glob("out.*"))]
    assert len(said) == 3 and not [trace for trace in TRACES for text in said if trace in text.encode()]
    assert all("«secret fetch.password»" in text for text in said)


def test_each_try_is_scrubbed_and_its_kernel_is_never_kept(guarded):
    guarded.configure("[stage.fetch]\nretries = 1\nretry_wait = 0")
    guarded.stage("01_fetch", SECRETS, "print(reveal(password))\nraise ValueError(reveal(token))", imports=IMPORTS)
    answer = guarded.ask("run", "--keep", "--json")
    assert answer.code == 1 and not find_traces(guarded, answer.out, answer.err)
    events = [json.loads(line) for line in answer.out.splitlines()]
    assert {"stage-retry"} <= {event["event"] for event in events}
    assert not [event for event in events if event["event"] == "kernel-kept"]
    tries = list((guarded.state / "runs").glob("*/01_fetch*.ipynb"))
    assert len(tries) == 2 and all("«secret fetch.token»" in path.read_text("utf-8") for path in tries)
    again = guarded.ask("run", "--resume")
    assert again.code == 1 and "ValueError: «secret fetch.token»" in again.out
    assert not find_traces(guarded, again.out, again.err)


def test_half_a_secret_is_not_written_while_the_cell_is_at_work(guarded):
    """The notebook is written as it grows; the end of an output may be the beginning of a secret."""
    guarded.stage("01_fetch", SECRETS, "import time\nprint('login as ' + reveal(token)[:9], end='', flush=True)\n"
                  "time.sleep(1.5)\nprint('', end='', flush=True)\n" + holding()
                  + "\nprint(reveal(token)[9:])", imports=IMPORTS)
    hold = guarded.hold()
    process = guarded.start("run")
    guarded.wait_for_kernel()
    grown = next(guarded.state.glob("runs/*/01_fetch.ipynb"))
    wait_until(lambda: "login as" in grown.read_text("utf-8"), "the notebook has grown", 10)
    assert TOKEN[:6] not in grown.read_text("utf-8")
    hold.unlink()
    assert guarded.finish(process).code == 0
    assert "login as «secret fetch.token»" in grown.read_text("utf-8")
