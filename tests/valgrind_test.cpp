// Under valgrind: its memory checker knows the tasks' stacks, and finds nothing to complain of.
// ctest: needs:valgrind valgrind
// ctest: no-asan valgrind cannot run such a program
// ctest: no-tsan the same
#include "support.hpp"

#include <mpg/mpg.hpp>

#include <filesystem>
#include <string>

namespace {

/// What the other test runs under valgrind; also true by itself.
struct valgrind_subject : mpg::test::with_procs {};
MPG_TEST_PROCS(valgrind_subject);

TEST_P(valgrind_subject, tasks_with_deep_frames_and_exceptions) {
    run([] {
        mpg::chan<std::string> results(4);
        mpg::wait_group ended;
        for (int i = 0; i < 100; ++i) {
            ended.go([results, i] {
                volatile char frame[2000] = {}; // touched, then left: what the next task finds is not its own
                frame[i] = 1;
                mpg::yield();
                try {
                    throw std::to_string(i + frame[i]);
                } catch (const std::string& text) {
                    mpg::sleep_for(std::chrono::microseconds(i * 10));
                    results.send(text);
                }
            });
        }
        mpg::go([&ended, results] {
            ended.wait();
            results.close();
        });
        int sum = 0, n = 0;
        for (const std::string& text : results) sum += std::stoi(text), ++n;
        EXPECT_EQ(n, 100);
        EXPECT_EQ(sum, 100 * 99 / 2 + 100);
    });
}

TEST(valgrind, finds_nothing) {
    const std::string self = std::filesystem::read_symlink("/proc/self/exe").string();
    const std::string command = "env -u MPG_NETPOLL valgrind --quiet --error-exitcode=9 --leak-check=full --fair-sched=yes " +
                                self + " --gtest_brief=1 --gtest_filter='procs/valgrind_subject.*' 2>&1";
    std::FILE* out = ::popen(command.c_str(), "r");
    ASSERT_NE(out, nullptr);
    std::string text;
    char part[4096];
    while (std::size_t n = std::fread(part, 1, sizeof part, out)) text.append(part, n);
    EXPECT_EQ(::pclose(out), 0) << text;
    EXPECT_NE(text.find("[  PASSED  ] 4 tests."), text.npos) << text;
    EXPECT_EQ(text.find("Warning"), text.npos) << text; // "client switching stacks?"
}

} // namespace
