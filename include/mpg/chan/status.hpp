// What a channel operation answers, and what it throws.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string_view>

namespace mpg {

/// The answer of the try, timed and cancellable forms. full: a try_send found neither room nor a receiver.
/// empty: a try_recv found neither a value nor a sender. closed: for a receiver, closed and drained.
enum class chan_status : std::uint8_t { ok, full, empty, closed, timeout, cancelled };

constexpr std::string_view to_string(chan_status s) noexcept {
    constexpr std::string_view names[] = {"ok", "full", "empty", "closed", "timeout", "cancelled"};
    return names[static_cast<unsigned>(s)];
}

/// A send on a closed channel, or a second close: an error of the program, as in Go.
class channel_closed : public std::logic_error {
  public:
    explicit channel_closed(const char* what = "mpg: send on closed channel")
        : std::logic_error(what) {}
};

/// A close of a nil channel.
class nil_channel : public std::logic_error {
  public:
    explicit nil_channel(const char* what = "mpg: close of nil channel")
        : std::logic_error(what) {}
};

} // namespace mpg
