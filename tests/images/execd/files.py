"""Files and directories: made, described, moved, searched, sent up and down."""

import datetime
import fnmatch
import grp
import json
import os
import pwd
import re
import shutil

from web import route


def utc(seconds):
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).isoformat().replace("+00:00", "Z")


def name_of(lookup, number):
    try:
        return lookup(number)[0]
    except KeyError:
        return str(number)


def describe(path):
    status = os.lstat(path)
    kind = "symlink" if os.path.islink(path) else "directory" if os.path.isdir(path) else "file"
    return {
        "path": path, "type": kind, "size": status.st_size, "mode": int(f"{status.st_mode & 0o777:o}"),
        "modified_at": utc(status.st_mtime), "created_at": utc(status.st_ctime),
        "owner": name_of(pwd.getpwuid, status.st_uid), "group": name_of(grp.getgrgid, status.st_gid),
    }


def permit(path, wanted):
    if wanted.get("owner") or wanted.get("group"):
        shutil.chown(path, wanted.get("owner") or None, wanted.get("group") or None)
    if wanted.get("mode"):
        os.chmod(path, int(str(wanted["mode"]), 8))


@route("POST", "/directories")
def directories_create(request):
    for path, wanted in request.json().items():
        os.makedirs(path, exist_ok=True)
        permit(path, wanted or {})
    request.answer()


@route("DELETE", "/directories")
def directories_delete(request):
    for path in request.query.get("path", []):
        shutil.rmtree(path, ignore_errors=True)
    request.answer()


@route("GET", "/directories/list")
def directories_list(request):
    folder = request.one("path")
    request.answer([describe(os.path.join(folder, name)) for name in sorted(os.listdir(folder))])


@route("DELETE", "/files")
def files_delete(request):
    for path in request.query.get("path", []):
        os.remove(path)
    request.answer()


@route("GET", "/files/info")
def files_info(request):
    request.answer({path: describe(path) for path in request.query.get("path", [])})


@route("POST", "/files/mv")
def files_move(request):
    for move in request.json():
        shutil.move(move["src"], move["dest"])
    request.answer()


@route("POST", "/files/permissions")
def files_permissions(request):
    for path, wanted in request.json().items():
        permit(path, wanted)
    request.answer()


@route("POST", "/files/replace")
def files_replace(request):
    counts = {}
    for path, change in request.json().items():
        with open(path, encoding="utf-8") as source:
            text = source.read()
        counts[path] = {"replacedCount": text.count(change["old"])}
        with open(path, "w", encoding="utf-8") as target:
            target.write(text.replace(change["old"], change["new"]))
    request.answer(counts)


@route("GET", "/files/search")
def files_search(request):
    base, pattern = request.one("path"), request.one("pattern") or "**"
    found = []
    for folder, _, names in os.walk(base):
        for name in names:
            relative = os.path.relpath(os.path.join(folder, name), base)
            if pattern == "**" or fnmatch.fnmatch(relative, pattern) or fnmatch.fnmatch(relative, pattern.removeprefix("**/")):
                found.append(describe(os.path.join(folder, name)))
    request.answer(found)


@route("POST", "/files/upload")
def files_upload(request):
    """Multipart: a `metadata` part says where the `file` part after it goes; repeated."""
    boundary = re.search(r'boundary="?([^";]+)', request.headers["Content-Type"])[1].encode()
    wanted = None
    for part in request.body().split(b"--" + boundary)[1:-1]:
        head, _, data = part[2:-2].partition(b"\r\n\r\n")
        if b'name="metadata"' in head:
            wanted = json.loads(data)
        elif b'name="file"' in head:
            os.makedirs(os.path.dirname(wanted["path"]) or "/", exist_ok=True)
            with open(wanted["path"], "wb") as target:
                target.write(data)
            permit(wanted["path"], wanted)
    request.answer()


@route("GET", "/files/download")
def files_download(request):
    with open(request.one("path"), "rb") as source:
        data = source.read()
    span = re.match(r"bytes=(\d*)-(\d*)", request.headers.get("Range", ""))
    if span:
        first = int(span[1] or 0)
        last = min(int(span[2]) if span[2] else len(data) - 1, len(data) - 1)
        request.answer(data[first : last + 1], 206, "application/octet-stream", [("Content-Range", f"bytes {first}-{last}/{len(data)}")])
    elif request.one("offset") or request.one("limit"):
        lines = data.split(b"\n")[max(int(request.one("offset") or 1) - 1, 0) :]
        request.answer(b"\n".join(lines[: int(request.one("limit") or len(lines))]), kind="text/plain")
    else:
        request.answer(data, kind="application/octet-stream")
