// What dumps give without libdw, as where it is not installed: addresses that addr2line understands.
// ctest: needs:addr2line binutils
// ctest: no-libdw
#include "shell.hpp"
#include "support.hpp"

#include <mpg/debug.hpp>
#include <mpg/mpg.hpp>

#include <regex>
#include <sstream>

#if defined(MPG_HAVE_LIBDW)
#error "this program is to be compiled without libdw"
#endif

namespace {

using mpg::test::shell;

[[gnu::noinline]] void waits_without_names(mpg::chan<int>& c) {
    (void)c.recv();
    asm volatile("");
}

/// What addr2line knows in `program` of the addresses in text that belong to the module.
std::string names_in(const std::string& program, const std::string& text, const std::string& module) {
    std::string command = "addr2line -Cfi -e " + program;
    const std::regex address(module + "\\+(0x[0-9a-f]+)");
    for (std::sregex_iterator it(text.begin(), text.end(), address), end; it != end; ++it) command += " " + (*it)[1].str();
    return shell(command);
}

TEST(fallback, addresses_are_those_that_addr2line_takes) {
    std::string text;
    mpg::run([&] {
        mpg::chan<int> c;
        mpg::go([&] { waits_without_names(c); });
        EXPECT_TRUE(mpg::test::eventually([&] {
            std::ostringstream os;
            mpg::debug::dump_tasks(os);
            text = os.str();
            return text.find("[waiting: chan receive") != std::string::npos;
        }));
        c.send(1);
    });
    const std::string names = names_in("/proc/" + std::to_string(::getpid()) + "/exe", text, "debug_fallback[a-z_]*");
    EXPECT_NE(names.find("waits_without_names"), std::string::npos) << text << names;
    EXPECT_NE(names.find("task_entry"), std::string::npos) << text << names;
}

#if defined(MPG_STATIC_DUMP) // not with sanitizers, which need shared libraries, nor without the archives
TEST(fallback, of_a_static_program_without_symbols_too) {
    const std::string stripped = "static_dump_" + std::to_string(::getpid());
    const std::string text = shell("strip -o " + stripped + " " MPG_STATIC_DUMP " && ./" + stripped + "; rm -f " + stripped);
    const std::string names = names_in(MPG_STATIC_DUMP, text, stripped);
    EXPECT_NE(names.find("waits_in_a_static_program"), std::string::npos) << text << names;
    EXPECT_EQ(text.find("waits_in_a_static_program"), std::string::npos) << text;
}
#endif

} // namespace
