// What a shell command says.
#pragma once

#include <cstdio>
#include <string>
#include <sys/wait.h>

namespace mpg::test {

/// stdout and stderr of the command; its exit code is in rc, -1: a signal ended it.
inline std::string shell(const std::string& command, int* rc = nullptr) {
    std::FILE* f = ::popen(("{ " + command + "\n} 2>&1").c_str(), "r");
    if (!f) return "popen";
    std::string out;
    char piece[4096];
    for (std::size_t n; (n = std::fread(piece, 1, sizeof piece, f)) > 0;) out.append(piece, n);
    const int status = ::pclose(f);
    if (rc) *rc = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    return out;
}

} // namespace mpg::test
