// debug::dump_tasks where there are symbols, but no debug information: names of functions, no files.
//
// ctest: no-lines
#include "support.hpp"

#include <mpg/debug.hpp>
#include <mpg/mpg.hpp>

#include <sstream>
#include <string>

namespace {

[[gnu::noinline]] void waits_for_a_value(mpg::chan<int>& c) {
    (void)c.recv();
    asm volatile("");
}
[[gnu::noinline]] void waits_for_a_lock(mpg::mutex& m) {
    m.lock();
    m.unlock();
}
/// The innermost frame of the task whose head has that in it.
std::string innermost(const std::string& dump, const std::string& head) {
    const std::size_t at = dump.find(head), line = dump.find('\n', at);
    return at == std::string::npos ? "none in " + dump : dump.substr(line + 1, dump.find('\n', line + 1) - line - 1);
}

TEST(names, tell_the_schedulers_own_frames_apart) {
    mpg::test::run_with_procs(2, [] {
        mpg::chan<int> c;
        mpg::mutex m;
        m.lock();
        mpg::wait_group g;
        g.go([&] { waits_for_a_value(c); });
        g.go([&] { waits_for_a_lock(m); });
        EXPECT_TRUE(mpg::test::eventually([] { return mpg::runtime::current()->stats().tasks_waiting == 2; }));
        std::ostringstream os;
        mpg::debug::dump_tasks(os);
        m.unlock();
        c.close();
        g.wait();
        const std::string text = os.str();
        EXPECT_EQ(text.find("mpg::fiber::"), std::string::npos) << text;
        EXPECT_EQ(text.find("mpg::sched::park"), std::string::npos) << text;
        EXPECT_EQ(innermost(text, "waiting: chan receive").find("mpg::sched::"), std::string::npos) << text;
        EXPECT_EQ(innermost(text, "waiting: mutex").find("mpg::sched::switch"), std::string::npos) << text;
        EXPECT_NE(text.find("waits_for_a_value("), std::string::npos) << text;
        EXPECT_NE(text.find("waits_for_a_lock("), std::string::npos) << text;
        EXPECT_EQ(text.find(".cpp:"), std::string::npos) << text; // else this is not what it says
        EXPECT_EQ(text.find("task_entry"), std::string::npos) << text;
    });
}

TEST(names, results_of_templates_are_taken_off) {
    using mpg::debug::detail::without_result;
    EXPECT_EQ(without_result("void mpg::sched::park<int>(int)"), "mpg::sched::park<int>(int)");
    EXPECT_EQ(without_result("mpg::chan<unsigned long> f<a b>(c d)"), "f<a b>(c d)");
    EXPECT_EQ(without_result("(anonymous namespace)::f(int, int)"), "(anonymous namespace)::f(int, int)");
    EXPECT_EQ(without_result("void (anonymous namespace)::f<int>(int, int)"), "(anonymous namespace)::f<int>(int, int)");
    EXPECT_EQ(without_result("main::{lambda()#1}::operator()() const"), "main::{lambda()#1}::operator()() const");
    EXPECT_EQ(without_result("main"), "main");
    EXPECT_EQ(without_result(""), "");
}

} // namespace
