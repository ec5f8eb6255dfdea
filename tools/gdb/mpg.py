# gdb commands for programs that use mpg; in a live process and in a core file. The program needs debug information
# with types (-g).
#
#   (gdb) source PREFIX/share/gdb/auto-load/mpg/mpg.py      not needed where the program is linked with mpg::gdb
#   (gdb) info tasks
#   (gdb) task 17 bt
#   (gdb) task apply all bt
#
# A task at rest is shown without touching registers or memory: while a command runs for it, an unwinder says that the
# caller of the innermost frame is where the task goes on. So it works in core files, too.
import re

import gdb
import gdb.unwinder


def registry():
    # By address and type apart: gdb knows no type for a function's static variable, and its expressions (13) do not
    # find types in nested namespaces.
    try:
        address = gdb.parse_and_eval("(unsigned long)&'mpg::sched::registry::instance()::r'")
        pointer = gdb.lookup_type("mpg::sched::registry").pointer()
        return address.cast(pointer.pointer()).dereference().dereference()
    except gdb.error:
        pass
    raise gdb.GdbError("no mpg runtime here (or no debug information with types: compile with -g)")


def runtimes():
    try:
        rt = registry()["first_"]
    except gdb.MemoryError:
        return
    while int(rt) != 0:
        yield rt.dereference()
        rt = rt["next_alive"]


def machines(rt):
    m = rt["machines"]
    while int(m) != 0:
        yield m.dereference()
        m = m["next_all"]


def plain(atomic):
    """The value of a std::atomic, of either standard library."""
    for field in ("_M_i", "_M_b", "__a_"):
        try:
            inner = atomic[field]
        except gdb.error:
            continue
        return plain(inner) if inner.type.strip_typedefs().code == gdb.TYPE_CODE_STRUCT else inner
    for f in atomic.type.fields():
        if f.is_base_class:
            return plain(atomic[f])
    return atomic


def enum_name(value):
    return str(value).rsplit("::", 1)[-1]


class Task:
    def __init__(self, record, rt):
        self.record = record
        self.id = int(record["id"])
        self.state = enum_name(plain(record["state"]))
        self.rt = rt

    def name(self):
        extras = self.record["extras"]
        return extras["name"].format_string().strip('"') if int(extras) != 0 else ""

    def reason(self):
        wait = self.record["wait"]
        if self.state == "waiting" and int(wait) != 0:
            return enum_name(wait["reason"])
        return ""

    def created(self):
        """The function that started it, and where that begins: the innermost that is not the library's."""
        pc = int(self.record["created_at"])
        block = gdb.block_for_pc(pc)
        function = None
        while block:
            if block.function:
                function = block.function
                library = "include/mpg/" in function.symtab.filename or "/include/c++/" in function.symtab.filename
                if not library:
                    break
            block = block.superblock
        if not function:
            return hex(pc)
        return "%s at %s:%d" % (function.print_name, function.symtab.filename, function.line)

    def registers(self):
        """Of a task at rest: register name to value; else None."""
        sp = int(self.record["ex"]["ctx"]["sp"])
        if sp == 0 or int(self.record["stack"]) == 0 or self.state in ("fresh", "running"):
            return None
        word = gdb.lookup_type("unsigned long").pointer()
        at = lambda offset: int(gdb.Value(sp + offset).cast(word).dereference())
        arch = gdb.selected_inferior().architecture().name() if hasattr(gdb.Inferior, "architecture") else ""
        if "aarch64" in arch:  # Boost.Context
            regs = {"x%d" % n: at(0x40 + 8 * (n - 19)) for n in range(19, 31)}
            regs.update(pc=at(0xA0), sp=sp + 0xB0)
            return regs
        if gdb.block_for_pc(at(0)):  # our own switch: rip, rbp, then 128 bytes that the code steps over
            return {"rip": at(0), "rbp": at(8), "rsp": sp + 16 + 128}
        return {"rip": at(56), "rbp": at(48), "rbx": at(40), "r15": at(32), "r14": at(24), "r13": at(16),
                "r12": at(8), "rsp": sp + 64}

    def thread(self):
        """The thread that runs it; else None."""
        for m in machines(self.rt):
            if int(m["cur"]) == int(self.record.address):
                tid = int(plain(m["tid"]))
                for t in gdb.selected_inferior().threads():
                    if t.ptid[1] == tid:
                        return t
        return None


def tasks():
    for rt in runtimes():
        slab = rt["slabs"]
        while int(slab) != 0:
            records = slab["records"]
            low, high = records.type.range()
            for i in range(low, high + 1):
                t = Task(records[i], rt)
                if t.state not in ("free", "ended"):
                    yield t
            slab = slab["next"]


class FrameId:
    def __init__(self, sp, pc):
        self.sp = sp
        self.pc = pc


class TaskUnwinder(gdb.unwinder.Unwinder):
    """While a task is chosen: its registers are those of the innermost frame's caller."""

    def __init__(self):
        super().__init__("mpg-task")
        self.chosen = None

    def __call__(self, frame):
        if not self.chosen or frame.level() != 0:
            return None
        pointer = gdb.lookup_type("void").pointer()
        sp_name = "rsp" if "rsp" in self.chosen else "sp"
        pc_name = "rip" if "rip" in self.chosen else "pc"
        # The innermost frame is said to lie just below the task's, so that gdb finds the order plausible.
        info = frame.create_unwind_info(
            FrameId(gdb.Value(self.chosen[sp_name] - 256).cast(pointer), frame.read_register(pc_name)))
        for name, value in self.chosen.items():
            info.add_saved_register(name, gdb.Value(value).cast(frame.read_register(name).type))
        return info


unwinder = TaskUnwinder()
gdb.unwinder.register_unwinder(None, unwinder, replace=True)


def run_for(task, command):
    """What a gdb command prints in the task's context."""
    registers = task.registers()
    before = gdb.selected_thread()
    if registers is None:
        thread = task.thread()
        if thread is None:
            return "no stack: it has not started, or is on its way\n"
        thread.switch()
        try:
            return gdb.execute(command, to_string=True)
        finally:
            if before:
                before.switch()
    unwinder.chosen = registers
    gdb.invalidate_cached_frames()
    try:
        frame = gdb.newest_frame().older()
        if frame is None:
            return "its stack cannot be read\n"
        frame.select()
        text = gdb.execute(command, to_string=True)
    finally:
        unwinder.chosen = None
        gdb.invalidate_cached_frames()
        if before:
            before.switch()
        try:
            gdb.newest_frame().select()
        except gdb.error:
            pass
    if re.match(r"(bt|backtrace|where)\b", command):  # frame 0 is not the task's
        parts = re.split(r"(?m)^#(\d+)(\s+)", text)
        text = "".join("#%-3d%s" % (int(parts[i]) - 1, parts[i + 2]) for i in range(1, len(parts), 3) if parts[i] != "0")
    return text


def head(t):
    s = "task %d" % t.id
    name = t.name()
    if name:
        s += ' "%s"' % name
    reason = t.reason()
    return s + " [%s%s]" % ("runnable" if t.state == "fresh" else t.state, ": " + reason if reason else "")


class InfoTasks(gdb.Command):
    """List the tasks of all mpg runtimes: id, name, state, what it waits for, where it was created."""

    def __init__(self):
        super().__init__("info tasks", gdb.COMMAND_STATUS)

    def invoke(self, arg, from_tty):
        for t in sorted(tasks(), key=lambda t: t.id):
            print("%s, created at %s" % (head(t), t.created()))


class TaskCommand(gdb.Command):
    """task N COMMAND: run a gdb command (bt, info locals, ...) in task N.
task apply all COMMAND: in every task, one after the other."""

    def __init__(self):
        super().__init__("task", gdb.COMMAND_STACK, gdb.COMPLETE_NONE)

    def invoke(self, arg, from_tty):
        words = arg.split(None, 2)
        if words[:2] == ["apply", "all"] and len(words) == 3:
            for t in sorted(tasks(), key=lambda t: t.id):
                print("\n%s:" % head(t))
                print(run_for(t, words[2]), end="")
            return
        words = arg.split(None, 1)
        if not words or not words[0].isdigit():
            raise gdb.GdbError("task N COMMAND, or: task apply all COMMAND")
        for t in tasks():
            if t.id == int(words[0]):
                print(run_for(t, words[1] if len(words) > 1 else "bt"), end="")
                return
        raise gdb.GdbError("no task %s" % words[0])


InfoTasks()
TaskCommand()
