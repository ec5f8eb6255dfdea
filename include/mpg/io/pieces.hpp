// Transfers of many pieces of memory: what is left of them.
#pragma once

#include <mpg/io/syscall.hpp>

#include <algorithm>
#include <cstddef>
#include <span>

#include <sys/uio.h>

namespace mpg::io {

/// Goes through the pieces in the windows that one system call takes, from wherever the one before has ended. The pieces
/// themselves are not changed.
class pieces_left {
  public:
    explicit pieces_left(std::span<const ::iovec> pieces) noexcept
        : pieces_(pieces) {}

    /// The next ones, none of them empty; none: all is done. Valid until the next call.
    std::span<::iovec> window() noexcept {
        std::size_t n = 0;
        asked_ = 0;
        while (!pieces_.empty() && pieces_.front().iov_len == skip_) drop_front();
        for (std::size_t i = 0; i != pieces_.size() && n != most; ++i) {
            const std::size_t from = i == 0 ? skip_ : 0, left = pieces_[i].iov_len - from, now = std::min(left, max_transfer - asked_);
            if (now == 0 && left != 0) break;
            if (left == 0) continue;
            part_[n++] = {static_cast<char*>(pieces_[i].iov_base) + from, now};
            asked_ += now;
        }
        return {part_, n};
    }
    /// Bytes of the last window.
    std::size_t asked() const noexcept { return asked_; }
    /// n of them have been transferred.
    void advance(std::size_t n) noexcept {
        done_ += n;
        while (n != 0) {
            const std::size_t here = std::min(n, pieces_.front().iov_len - skip_);
            n -= here;
            skip_ += here;
            if (skip_ == pieces_.front().iov_len) drop_front();
        }
    }
    /// Bytes transferred so far.
    std::size_t done() const noexcept { return done_; }

  private:
    static constexpr std::size_t most = 64;

    void drop_front() noexcept {
        pieces_ = pieces_.subspan(1);
        skip_ = 0;
    }

    std::span<const ::iovec> pieces_;
    std::size_t skip_ = 0; // bytes of the first one that are done
    std::size_t done_ = 0, asked_ = 0;
    ::iovec part_[most];
};

} // namespace mpg::io
