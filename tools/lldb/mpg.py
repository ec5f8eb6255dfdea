# lldb for programs that use mpg; in a live process and in a core file. The program needs debug information with types
# (-g).
#
#   (lldb) command script import .../share/mpg/lldb/mpg.py        (or put that line into ~/.lldbinit)
#   (lldb) mpg tasks
#   (lldb) mpg bt 17
#   (lldb) mpg bt all
#
# Tasks at rest also stand in `thread list`, with the ids that `mpg tasks` shows as tid, so that `thread select`, `frame
# variable` and the rest work with them: mpg_threads.py makes an operating system plug-in of this file. Nothing of the
# process is changed.
import os
import struct

import lldb

# Added to a task's id: the id of the thread that lldb shows.
FIRST_TID = 1 << 40


class Layout:
    """Where things stand in the process; found once."""

    def __init__(self, target):
        self.target = target
        self.order = "<" if target.GetByteOrder() == lldb.eByteOrderLittle else ">"
        types = {n: target.FindFirstType("mpg::sched::" + n) for n in ("task", "record_slab", "runtime_state", "registry",
                                                                       "machine", "park_ops", "task_extras")}
        missing = [n for n, t in types.items() if not t.IsValid()]
        if missing:
            raise RuntimeError("no mpg here, or no debug information with types (compile with -g)")
        self.types = types
        self.task_size = types["task"].GetByteSize()
        task = types["task"]
        self.task = {n: self.offset(task, n) for n in ("id", "stack", "wait", "created_at", "parent", "extras", "state", "rt")}
        self.sp = self.offset(task, "ex") + self.offset(self.member_type(task, "ex"), "ctx")
        context = self.member_type(self.member_type(task, "ex"), "ctx")
        self.sp += self.offset(context, "sp")
        self.slab_next = self.offset(types["record_slab"], "next")
        self.slab_records = self.offset(types["record_slab"], "records")
        self.states = self.enumerators("mpg::sched::task_state")
        self.reasons = self.enumerators("mpg::sched::wait_reason")

    def enumerators(self, name):
        t = self.target.FindFirstType(name)
        return {m.GetValueAsUnsigned(): m.GetName() for m in t.get_enum_members_array()} if t.IsValid() else {}

    @staticmethod
    def fields(t):
        t = t.GetCanonicalType()
        return [t.GetFieldAtIndex(i) for i in range(t.GetNumberOfFields())]

    def field(self, t, name):
        for f in self.fields(t):
            if f.GetName() == name:
                return f
        raise RuntimeError("%s has no member %s" % (t.GetName(), name))

    def offset(self, t, name):
        return self.field(t, name).GetOffsetInBytes()

    def member_type(self, t, name):
        return self.field(t, name).GetType()


class Memory:
    def __init__(self, process, order):
        self.process = process
        self.order = order

    def read(self, address, size):
        error = lldb.SBError()
        data = self.process.ReadMemory(address, size, error)
        return data if error.Success() else None

    def word(self, address):
        data = self.read(address, 8)
        return struct.unpack(self.order + "Q", data)[0] if data else 0

    def byte(self, address):
        data = self.read(address, 1)
        return data[0] if data else 0


class Task:
    pass


def tasks_of(process):
    """All tasks of all runtimes, by id."""
    target = process.GetTarget()
    layout = Layout(target)
    memory = Memory(process, layout.order)
    found = []
    symbols = target.FindSymbols("mpg::sched::registry::instance()::r")
    if symbols.GetSize() == 0:
        symbols = target.FindSymbols("_ZZN3mpg5sched8registry8instanceEvE1r")
    if symbols.GetSize() == 0:
        raise RuntimeError("no mpg runtime here")
    where = symbols.GetContextAtIndex(0).GetSymbol().GetStartAddress().GetLoadAddress(target)
    registry = memory.word(where)
    if registry == 0:
        return found
    first, slabs = layout.offset(layout.types["registry"], "first_"), layout.offset(layout.types["runtime_state"], "slabs")
    following = layout.offset(layout.types["runtime_state"], "next_alive")
    rt = memory.word(registry + first)
    while rt != 0:
        running = running_tasks(layout, memory, rt)
        slab = memory.word(rt + slabs)
        while slab != 0:
            data = memory.read(slab + layout.slab_records, 256 * layout.task_size) or b""
            for at in range(0, len(data), layout.task_size):
                state = layout.states.get(data[at + layout.task["state"]], "?")
                if state in ("free", "ended"):
                    continue
                word = lambda offset: struct.unpack_from(layout.order + "Q", data, at + offset)[0]
                t = Task()
                t.id = word(layout.task["id"])
                t.state = state
                t.stack = word(layout.task["stack"])
                t.created_at = word(layout.task["created_at"])
                t.sp = word(layout.sp)
                t.thread = running.get(slab + layout.slab_records + at)
                wait = word(layout.task["wait"])
                t.reason = ""
                if state == "waiting" and wait != 0:
                    t.reason = layout.reasons.get(memory.byte(wait + layout.offset(layout.types["park_ops"], "reason")), "?")
                extras = word(layout.task["extras"])
                t.name = name_at(memory, extras + layout.offset(layout.types["task_extras"], "name")) if extras else ""
                found.append(t)
            slab = memory.word(slab + layout.slab_next)
        rt = memory.word(rt + following)
    return sorted(found, key=lambda t: t.id)


def name_at(memory, address):
    """A std::string of libstdc++: pointer, length."""
    length = memory.word(address + 8)
    data = memory.read(memory.word(address), min(length, 256)) if length else b""
    return (data or b"").decode("utf-8", "replace")


def running_tasks(layout, memory, rt):
    """Address of a record to the thread that runs it."""
    out = {}
    machine = layout.types["machine"]
    m = memory.word(rt + layout.offset(layout.types["runtime_state"], "machines"))
    while m != 0:
        tid = memory.read(m + layout.offset(machine, "tid"), 4)
        cur = memory.word(m + layout.offset(machine, "cur"))
        if tid and cur:
            out[cur] = struct.unpack(layout.order + "i", tid)[0]
        m = memory.word(m + layout.offset(machine, "next_all"))
    return out


def head(t):
    name = ' "%s"' % t.name if t.name else ""
    reason = ": " + t.reason if t.reason else ""
    return "task %d%s [%s%s]" % (t.id, name, "runnable" if t.state == "fresh" else t.state, reason)


def created(target, t):
    """The function that started it, and where: the innermost that is not the library's."""
    address = target.ResolveLoadAddress(t.created_at)
    function = address.GetFunction()
    block = address.GetBlock()
    line = address.GetLineEntry()
    if not function.IsValid():
        return hex(t.created_at)
    file, number = line.GetFileSpec(), line.GetLine()
    if block.IsValid() and not block.IsInlined():
        block = block.GetContainingInlinedBlock()
    while block.IsValid() and ("include/mpg/" in str(file) or "/include/c++/" in str(file)):
        file, number = block.GetInlinedCallSiteFile(), block.GetInlinedCallSiteLine()
        block = block.GetParent()
        if block.IsValid() and not block.IsInlined():
            block = block.GetContainingInlinedBlock()
    name = block.GetInlinedName() if block.IsValid() and block.IsInlined() else function.GetDisplayName()
    return "%s at %s:%d" % (name, file, number)


X86 = ["rax", "rbx", "rcx", "rdx", "rdi", "rsi", "rbp", "rsp", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "rip", "rflags"]
X86_DWARF = {"rax": 0, "rdx": 1, "rcx": 2, "rbx": 3, "rsi": 4, "rdi": 5, "rbp": 6, "rsp": 7, "r8": 8, "r9": 9, "r10": 10, "r11": 11,
             "r12": 12, "r13": 13, "r14": 14, "r15": 15, "rip": 16}
ARM = ["x%d" % i for i in range(31)] + ["sp", "pc", "cpsr"]
ARM_DWARF = dict([("x%d" % i, i) for i in range(31)] + [("sp", 31), ("pc", 32)])
GENERIC = {"rip": "pc", "rsp": "sp", "rbp": "fp", "rflags": "flags", "pc": "pc", "sp": "sp", "x29": "fp", "x30": "lr", "cpsr": "flags"}


class OperatingSystemPlugIn:
    """lldb's: tasks at rest as threads."""

    def __init__(self, process):
        self.process = process
        self.arm = process.GetTarget().GetTriple().startswith(("aarch64", "arm64"))
        self.names = ARM if self.arm else X86
        self.registers = {}

    def create_thread(self, tid, context):
        return None

    def get_thread_info(self):
        self.registers = {}
        threads = []
        try:
            all_tasks = tasks_of(self.process)
        except RuntimeError:
            return threads
        for t in all_tasks:
            if t.thread is not None or t.sp == 0 or t.stack == 0 or t.state in ("fresh", "running", "frozen"):
                continue
            tid = FIRST_TID + t.id
            self.registers[tid] = self.saved(t.sp)
            threads.append({"tid": tid, "name": head(t), "queue": "mpg", "state": "stopped", "stop_reason": "none"})
        return threads

    def saved(self, sp):
        """What a switch has saved; see fiber/context.hpp. Our own on x86-64, else Boost.Context's."""
        memory = Memory(self.process, "<")
        at = lambda offset: memory.word(sp + offset)
        if self.arm:
            regs = {"x%d" % n: at(0x40 + 8 * (n - 19)) for n in range(19, 31)}
            regs.update(pc=at(0xA0), sp=sp + 0xB0)
            return regs
        code = self.process.GetTarget().ResolveLoadAddress(at(0)).GetSection()
        if code.IsValid() and code.GetPermissions() & lldb.ePermissionsExecutable:
            return {"rip": at(0), "rbp": at(8), "rsp": sp + 16 + 128}
        return {"rip": at(56), "rbp": at(48), "rbx": at(40), "r15": at(32), "r14": at(24), "r13": at(16), "r12": at(8), "rsp": sp + 64}

    def get_register_info(self):
        dwarf = ARM_DWARF if self.arm else X86_DWARF
        registers = []
        for i, name in enumerate(self.names):
            r = {"name": name, "bitsize": 64, "offset": 8 * i, "encoding": "uint", "format": "hex", "set": 0}
            if name in dwarf:
                r["gcc"] = r["dwarf"] = dwarf[name]
            if name in GENERIC:
                r["generic"] = GENERIC[name]
            registers.append(r)
        return {"sets": ["GPR"], "registers": registers}

    def get_register_data(self, tid):
        regs = self.registers.get(tid, {})
        return struct.pack("<%dQ" % len(self.names), *[regs.get(n, 0) for n in self.names])


def load_plugin(debugger):
    plugin = os.path.join(os.path.dirname(os.path.abspath(__file__)), "mpg_threads.py")
    debugger.HandleCommand('settings set target.process.python-os-plugin-path "%s"' % plugin)


def thread_of(process, t):
    wanted = t.thread if t.thread is not None else FIRST_TID + t.id
    for thread in process:
        if thread.GetThreadID() == wanted:
            return thread
    return None


def print_stack(process, t, result):
    result.AppendMessage("%s:" % head(t))
    thread = thread_of(process, t)
    if thread is None:
        result.AppendMessage("  no stack: it has not started, or is on its way")
        return
    for frame in thread:
        result.AppendMessage("  " + str(frame))


def command(debugger, text, result, internal_dict):
    """mpg tasks: all tasks of all runtimes. mpg bt N, mpg bt all: their stacks."""
    process = debugger.GetSelectedTarget().GetProcess()
    words = text.split()
    try:
        found = tasks_of(process)
        if not any(thread.GetThreadID() > FIRST_TID for thread in process):
            load_plugin(debugger)  # lldb has asked it before it knew the program
    except RuntimeError as e:
        result.SetError(str(e))
        return
    if words == ["tasks"]:
        for t in found:
            result.AppendMessage("%s, created at %s" % (head(t), created(process.GetTarget(), t)))
    elif len(words) == 2 and words[0] == "bt" and (words[1] == "all" or words[1].isdigit()):
        chosen = found if words[1] == "all" else [t for t in found if t.id == int(words[1])]
        if not chosen:
            result.SetError("no task " + words[1])
        for t in chosen:
            print_stack(process, t, result)
    else:
        result.SetError("mpg tasks, mpg bt N, mpg bt all")


def __lldb_init_module(debugger, internal_dict):
    debugger.HandleCommand("command script add -o -f %s.command mpg" % __name__)
    load_plugin(debugger)
