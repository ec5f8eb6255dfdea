// tools/gdb/mpg.py and tools/lldb/mpg.py: in a live process and in a core file.
// ctest: needs:gdb gdb
// ctest: needs:lldb-19 lldb-19
// ctest: debuggers
// ctest: no-asan gdb and the program's shadow memory take minutes for a core file
// ctest: no-tsan the same
#include "shell.hpp"
#include "support.hpp"

#include <mpg/mpg.hpp>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>
#include <sys/syscall.h>
#include <system_error>

namespace {

using mpg::test::shell;

[[gnu::noinline]] void sits_and_waits(mpg::chan<int>& c) {
    (void)c.recv();
    asm volatile("");
}

/// Every thread of that process waits in the kernel, one of them in a read from fd. A thread that waits has left the task that it
/// ran before: its registers are saved.
bool stands_still(::pid_t pid, int fd) {
    char reads[64];
    std::snprintf(reads, sizeof reads, "%d %#x ", static_cast<int>(SYS_read), static_cast<unsigned>(fd));
    bool one_reads = false;
    std::error_code gone;
    for (auto& thread : std::filesystem::directory_iterator("/proc/" + std::to_string(pid) + "/task", gone)) {
        std::ifstream f(thread.path() / "syscall");
        std::string call; // its number and arguments, or "running"
        if (!std::getline(f, call) || call[0] < '0' || call[0] > '9') return false;
        one_reads = one_reads || call.rfind(reads, 0) == 0;
    }
    return one_reads;
}

/// A process with tasks of every kind, standing still.
struct specimen {
    ::pid_t pid = -1;
    int hold[2] = {-1, -1};
    /// cores: where its core file goes; null: it leaves none.
    explicit specimen(const char* cores = nullptr) {
        int ready[2];
        if (::pipe(hold) != 0 || ::pipe(ready) != 0) return;
        std::fflush(nullptr);
        pid = ::fork();
        if (pid == 0) {
            ::prctl(PR_SET_PDEATHSIG, SIGKILL);
            ::prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);
            ::rlimit size{0, 0};
            if (cores) size = {RLIM_INFINITY, RLIM_INFINITY};
            ::setrlimit(RLIMIT_CORE, &size);
            if (cores && ::chdir(cores) != 0) ::_exit(1);
            mpg::options o;
            o.procs = 2;
            mpg::run(o, [&] {
                mpg::chan<int> c;
                mpg::wait_group parked;
                for (int i = 0; i < 3; ++i)
                    mpg::go([&] {
                        mpg::this_task::set_name("sitter");
                        sits_and_waits(c);
                    });
                while (mpg::runtime::current()->stats().tasks_waiting < 3) mpg::yield();
                (void)!::write(ready[1], "x", 1);
                char byte;
                (void)!::read(hold[0], &byte, 1); // main stands here
            });
            ::_exit(0);
        }
        char byte;
        EXPECT_EQ(::read(ready[0], &byte, 1), 1);
        EXPECT_TRUE(mpg::test::eventually([&] { return stands_still(pid, hold[0]); }));
        ::close(ready[0]);
        ::close(ready[1]);
    }
    ~specimen() {
        ::kill(pid, SIGKILL);
        ::waitpid(pid, nullptr, 0);
        ::close(hold[0]);
        ::close(hold[1]);
    }
};

std::size_t count(const std::string& text, const std::string& word) {
    std::size_t n = 0;
    for (std::size_t at = 0; (at = text.find(word, at)) != std::string::npos; at += word.size()) ++n;
    return n;
}
/// The script comes by itself: the program is linked with mpg::gdb.
std::string gdb(const std::string& arguments) {
    return shell("gdb -nx -batch -iex 'add-auto-load-safe-path " MPG_SOURCE_DIR "/tools/gdb' " + arguments + " 2>&1");
}
const std::string commands = " -ex 'info tasks' -ex 'echo ======\\n'"
                             " -ex 'task apply all bt' -ex 'echo ======\\n' -ex 'task 1 bt' -ex 'bt 1'";

void check(const std::string& out) {
    std::size_t second = out.find("======"), third = out.rfind("======");
    ASSERT_NE(second, third) << out;
    std::string list = out.substr(0, second), all = out.substr(second, third - second), one = out.substr(third);
    EXPECT_EQ(count(list, "\"sitter\" [waiting: chan_recv], created at "), 3u) << out;
    EXPECT_NE(list.find("task 1 [running], created at "), std::string::npos) << out;
    EXPECT_EQ(count(all, "sits_and_waits ("), 3u) << out;
    EXPECT_EQ(count(all, "mpg::sched::task_entry"), 4u) << out; // each to its end, main's too
    EXPECT_NE(one.find("read ("), std::string::npos) << out;
    EXPECT_EQ(out.find("Python Exception"), std::string::npos) << out;
    EXPECT_EQ(out.find("Backtrace stopped"), std::string::npos) << out;
}

std::string lldb(const std::string& arguments) {
    return shell("lldb-19 --no-lldbinit --batch -o 'command script import " MPG_SOURCE_DIR "/tools/lldb/mpg.py' " + arguments +
                 " -o 'mpg tasks' -o 'mpg bt all' -o 'mpg bt 1' -o 'mpg bt 999999' 2>&1");
}
void check_lldb(const std::string& out) {
    const std::size_t second = out.find("(lldb) mpg bt all"), third = out.find("(lldb) mpg bt 1\n");
    ASSERT_TRUE(second != std::string::npos && third != std::string::npos) << out;
    const std::string list = out.substr(0, second), all = out.substr(second, third - second), one = out.substr(third);
    EXPECT_EQ(count(list, "\"sitter\" [waiting: chan_recv], created at "), 3u) << out;
    EXPECT_NE(list.find("task 1 [running], created at "), std::string::npos) << out;
    EXPECT_EQ(count(all, "sits_and_waits(c="), 3u) << out;
    EXPECT_EQ(count(all, "`mpg::sched::task_entry"), 4u) << out; // each to its end, main's too
    EXPECT_NE(one.find("libc_read("), std::string::npos) << out;
    EXPECT_NE(out.find("error: no task 999999"), std::string::npos) << out;
    EXPECT_EQ(out.find("Traceback"), std::string::npos) << out;
}

TEST(gdb, shows_the_tasks_of_a_live_process) {
    specimen s;
    check(gdb("-p " + std::to_string(s.pid) + commands));
}
TEST(lldb, shows_the_tasks_of_a_live_process) {
    specimen s;
    check_lldb(lldb("-o 'process attach --pid " + std::to_string(s.pid) + "'"));
}

// The kernel's core: gdb's own (generate-core-file) leaves out a slab of stacks at its first guard that is no mapping.
TEST(debuggers, show_the_tasks_of_a_core_file) {
    char folder[] = "/tmp/mpg_gdb_XXXXXX";
    ASSERT_NE(::mkdtemp(folder), nullptr);
    {
        specimen s(folder);
        ::kill(s.pid, SIGABRT);
        int status = 0;
        ::waitpid(s.pid, &status, 0);
        ASSERT_TRUE(WIFSIGNALED(status) && WCOREDUMP(status)) << "no core: see /proc/sys/kernel/core_pattern";
    }
    std::string core;
    for (auto& e : std::filesystem::directory_iterator(folder)) core = e.path();
    ASSERT_NE(core, "") << "the core went elsewhere: see /proc/sys/kernel/core_pattern";
    const std::string program = std::filesystem::read_symlink("/proc/self/exe").string();
    check(gdb(program + " " + core + commands));
    check_lldb(lldb("-o 'target create " + program + " --core " + core + "'"));
    std::filesystem::remove_all(folder);
}

} // namespace
