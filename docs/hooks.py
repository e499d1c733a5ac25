"""What MkDocs needs to build pages that rustdoc builds as well, and the page that is made from the C header."""

import re
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parent.parent
PAGES = ROOT / "docs" / "pages"

C_API = "reference/c-api.md"


def on_files(files, config):
    files.append(File.generated(config, C_API, content=c_api((ROOT / "include/kumatp.h").read_text())))
    return files


def on_page_markdown(markdown, page, config, files):
    """The fence of a block of code may tell rustdoc more than the language."""
    return re.sub(r"^```(\w+),.*$", r"```\1", markdown, flags=re.MULTILINE)


def c_api(header):
    """The header as a page: what holds for all, then each type with its functions."""
    intro, rest = header.split("*/", 1)
    lines = [line.removeprefix("/*").removeprefix(" *").removeprefix(" ") for line in intro.split("\n")]
    general = "\n".join(lines).split("\n\n", 2)[2]
    page = [
        "# C API",
        "",
        "This page is made from `include/kumatp.h`, which is the reference. [Programs in C, Go and Rust](../how-to/embed.md) has"
        " complete programs."
        if (PAGES / "how-to/embed.md").exists()
        else "This page is made from `include/kumatp.h`, which is the reference.",
        "",
        "## Conventions",
        "",
        *conventions(general),
        "",
    ]
    groups = {}
    pattern = re.compile(r"/\*\*\n(.*?)\n \*/\n(.*?)(?=\n\n|\Z)", re.DOTALL)
    for comment, code in pattern.findall(rest):
        if code.startswith("#if"):
            continue
        name = declared(code)
        groups.setdefault(group(name, code), []).append((name, comment, code))
    for title, items in groups.items():
        page += [f"## {title}", ""]
        for name, comment, code in items:
            text = "\n".join(line.removeprefix(" *").removeprefix(" ") for line in comment.split("\n"))
            # Names of constants and functions may differ in case alone.
            page += [f"### `{name}` {{ #{name} }}", "", "```c", code, "```", "", text, ""]
    return "\n".join(page) + "\n"


def conventions(text):
    """`Word      Its meaning`, continued on lines that are indented, as a list of definitions."""
    out = []
    for line in text.split("\n"):
        start = re.match(r"(\S[\w ]*?) {2,}(.*)", line)
        if start:
            out += ["", start[1], f":   {start[2]}"]
        elif line.strip():
            out.append("    " + line.strip())
    return out


def declared(code):
    for pattern in (r"#define (\w+)", r"(\w+)\s*\(", r"}\s*(\w+);", r"(\w+);"):
        found = re.search(pattern, code.replace("KUMATP_MUST_USE", ""))
        if found:
            return found[1]
    raise ValueError(f"include/kumatp.h declares nothing here:\n{code}")


def group(name, code):
    """Functions by the type that they work on."""
    if "(" not in code or code.startswith("#define"):
        return "Constants and types"
    of = name.split("_")[1]
    return "Functions about the library" if of in ("abi", "version", "status") else f"Functions `kumatp_{of}_…`"
