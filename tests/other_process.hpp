// A second process for a test, on both sides of which tasks of a runtime talk: for what does not fit into one, such as both
// ends of ten thousand connections.
#pragma once

#include "io_support.hpp"

#include <mpg/mpg.hpp>
#include <mpg/net.hpp>

#include <csignal>
#include <cstdio>
#include <iostream>
#include <string>
#include <string_view>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <utility>

namespace mpg::test {

/// One end of what two processes say to each other: lines. Each waits for the other's next word, so what is done before
/// say() is done before the other's hear() returns.
class line_talk {
  public:
    explicit line_talk(int fd)
        : stream_(std::move(*net::unix_stream::adopt(io::unique_fd(fd)))) {}
    void say(std::string line) { EXPECT_TRUE(stream_.write(bytes(line += '\n'))) << "the other process is gone"; }
    /// "" and a failed expectation: the other process is gone.
    std::string hear() {
        std::string line;
        for (std::byte one; stream_.read(std::span(&one, 1)).value_or(0) == 1; line += static_cast<char>(one))
            if (static_cast<char>(one) == '\n') return line;
        ADD_FAILURE() << "the other process is gone";
        return {};
    }
    void hang_up() { stream_.close(); }

  private:
    net::unix_stream stream_;
};

/// Made where no runtime and no thread is alive, for it is a fork: runs f(line_talk&) as the main task of a runtime. The
/// destructor waits for its end; expectations that failed there are printed, and fail the test here. It dies with its parent.
class other_process {
  public:
    template <class F> other_process(options o, F f)
        : other_process(start(o, f)) {}
    other_process(const other_process&) = delete;
    other_process& operator=(const other_process&) = delete;
    ~other_process() {
        talk_.hang_up(); // one who waits for a word in vain, since a test has failed, ends
        int status = 0;
        EXPECT_EQ(::waitpid(pid_, &status, 0), pid_);
        EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << "the other process failed, see above: " << status;
    }
    line_talk& talk() { return talk_; }

  private:
    struct started {
        ::pid_t pid;
        int fd;
    };
    explicit other_process(started s)
        : pid_(s.pid)
        , talk_(s.fd) {}

    template <class F> static started start(options o, F& f) {
        int ends[2];
        EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
        std::cout.flush();
        std::fflush(nullptr);
        const ::pid_t pid = ::fork();
        if (pid != 0) {
            ::close(ends[1]);
            return {pid, ends[0]};
        }
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        ::close(ends[0]);
        try {
            line_talk talk(ends[1]);
            mpg::run(o, [&] { f(talk); });
        } catch (const std::exception& e) {
            ADD_FAILURE() << e.what();
        }
        std::cout.flush();
        std::fflush(nullptr);
        ::_exit(::testing::Test::HasFailure() ? 1 : 0);
    }

    ::pid_t pid_;
    line_talk talk_;
};

} // namespace mpg::test
