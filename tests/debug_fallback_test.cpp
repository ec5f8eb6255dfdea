// What dumps give without libdw, as where it is not installed: addresses that addr2line understands.
// ctest: needs:addr2line binutils
// ctest: no-libdw
#include "support.hpp"

#include <mpg/debug.hpp>
#include <mpg/mpg.hpp>

#include <regex>
#include <sstream>

#if defined(MPG_HAVE_LIBDW)
#error "this program is to be compiled without libdw"
#endif

namespace {

[[gnu::noinline]] void waits_without_names(mpg::chan<int>& c) {
    (void)c.recv();
    asm volatile("");
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
    std::string command = "addr2line -Cfi -e /proc/" + std::to_string(::getpid()) + "/exe";
    const std::regex address("debug_fallback[a-z_]*\\+(0x[0-9a-f]+)");
    for (std::sregex_iterator it(text.begin(), text.end(), address), end; it != end; ++it) command += " " + (*it)[1].str();
    std::string names;
    std::FILE* f = ::popen(command.c_str(), "r");
    char piece[4096];
    for (std::size_t n; (n = std::fread(piece, 1, sizeof piece, f)) > 0;) names.append(piece, n);
    ::pclose(f);
    EXPECT_NE(names.find("waits_without_names"), std::string::npos) << text << names;
    EXPECT_NE(names.find("task_entry"), std::string::npos) << text << names;
}

} // namespace
