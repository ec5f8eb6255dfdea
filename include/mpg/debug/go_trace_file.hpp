// The bytes of Go's execution trace, as `go tool trace` reads them: format of Go 1.19, which later ones read, too.
//
// A header of 16 bytes, then events: a byte (the kind in six bits; how many numbers, less one, in two, where 3 says that a
// length in bytes follows), then numbers in base 128, lowest first. The first number of most is the time since the event
// before. A batch says whose events follow. Names stand in a dictionary, and stacks in another.
// The kinds and their numbers: the table in Go's src/internal/trace/parser.go.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <map>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace mpg::debug::detail {

enum class go_event : std::uint8_t {
    batch = 1,
    frequency = 2,
    stack = 3,
    procs = 4,
    p_start = 5,
    p_stop = 6,
    create = 13,
    start = 14,
    end = 15,
    sched = 17,
    preempt = 18,
    sleep = 19,
    block = 20,
    unblock = 21,
    block_send = 22,
    block_recv = 23,
    block_select = 24,
    block_sync = 25,
    block_cond = 26,
    block_net = 27,
    call = 28,
    call_exit = 29,
    call_block = 30,
    waiting = 31,
    in_call = 32,
    string = 37,
};

struct go_frame {
    std::uint64_t pc = 0;
    std::string function, file;
    unsigned line = 0;
};

/// Appended to; whole when finish() has been called.
class go_trace_file {
  public:
    /// To the events of a P, whose times never go back.
    void add(std::uint64_t p, go_event kind, std::uint64_t time, std::initializer_list<std::uint64_t> about) {
        auto [at, fresh] = batches_.try_emplace(p);
        batch& b = at->second;
        if (fresh) {
            head(b.bytes, go_event::batch, 2);
            number(b.bytes, p);
            number(b.bytes, time);
            b.last = time;
        }
        std::string body;
        number(body, time - b.last);
        for (std::uint64_t n : about) number(body, n);
        b.last = time;
        entry(b.bytes, kind, about.size() + 1, body);
    }
    /// Innermost first. Returns its number.
    std::uint64_t stack(const std::vector<go_frame>& frames) {
        std::string body;
        number(body, ++stack_count_);
        number(body, frames.size());
        for (const go_frame& f : frames) {
            number(body, f.pc);
            number(body, name(f.function));
            number(body, name(f.file));
            number(body, f.line);
        }
        entry(tables_, go_event::stack, 2 + 4 * frames.size(), body);
        return stack_count_;
    }
    std::string finish(std::uint64_t ticks_in_a_second) {
        std::string out("go 1.19 trace\0\0\0", 16);
        for (auto& [p, b] : batches_) out += b.bytes;
        head(out, go_event::frequency, 1);
        number(out, ticks_in_a_second);
        return out += tables_;
    }

  private:
    struct batch {
        std::string bytes;
        std::uint64_t last = 0;
    };
    static void number(std::string& out, std::uint64_t n) {
        for (; n >= 0x80; n >>= 7) out += static_cast<char>(n | 0x80);
        out += static_cast<char>(n);
    }
    static void head(std::string& out, go_event kind, std::size_t numbers) {
        out += static_cast<char>(static_cast<std::size_t>(kind) | (numbers - 1) << 6);
    }
    static void entry(std::string& out, go_event kind, std::size_t numbers, const std::string& body) {
        head(out, kind, numbers < 4 ? numbers : 4);
        if (numbers >= 4) number(out, body.size());
        out += body;
    }
    std::uint64_t name(std::string_view text) {
        constexpr std::size_t longest = 4096; // the readers' own limit is a million
        if (text.empty()) return 0;
        auto [at, fresh] = names_.try_emplace(std::string(text.substr(0, longest)), names_.size() + 1);
        if (fresh) {
            tables_ += static_cast<char>(go_event::string);
            number(tables_, at->second);
            number(tables_, at->first.size());
            tables_ += at->first;
        }
        return at->second;
    }

    std::map<std::uint64_t, batch> batches_;
    std::unordered_map<std::string, std::uint64_t> names_;
    std::uint64_t stack_count_ = 0;
    std::string tables_;
};

} // namespace mpg::debug::detail
