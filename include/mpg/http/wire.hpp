// The bytes of one connection: what has been read and not used, and what waits to be sent.
#pragma once

#include <mpg/base/clock.hpp>
#include <mpg/http/late_flush.hpp>
#include <mpg/http/link.hpp>
#include <mpg/io/result.hpp>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <system_error>

namespace mpg::http::detail {

inline std::span<const std::byte> as_bytes(std::string_view s) noexcept {
    return {reinterpret_cast<const std::byte*>(s.data()), s.size()};
}
inline std::string_view as_text(std::span<const std::byte> s) noexcept {
    return {reinterpret_cast<const char*>(s.data()), s.size()};
}

/// Bytes read ahead. A small buffer stands in the object, so that an idle connection needs no other; a larger
/// one is made while a request needs it. Bytes in front of `pin` stay where they are until `unpin`: views
/// point there.
class input_buffer {
  public:
    std::string_view unread() const noexcept { return {data_ + begin_, end_ - begin_}; }
    bool empty() const noexcept { return begin_ == end_; }
    void consume(std::size_t n) noexcept { begin_ += n; }

    /// Nobody moves what has been consumed so far, nor overwrites it.
    void pin() noexcept {
        floor_ = begin_;
        pinned_ = true;
    }
    void unpin() noexcept {
        pinned_ = false;
        floor_ = 0;
        old_.reset();
        if (empty()) {
            begin_ = end_ = 0;
            if (large_ && capacity_ > keep_bytes) use_small();
        }
    }
    /// Gives the memory back that an idle connection does not need.
    void release() noexcept {
        if (empty() && !pinned_) {
            begin_ = end_ = 0;
            use_small();
        }
    }

    /// Free space behind the unread bytes, at least `wanted` bytes of it. Unread bytes may move.
    std::span<std::byte> room(std::size_t wanted) {
        if (empty()) begin_ = end_ = floor_;
        if (capacity_ - end_ < wanted) make_room(wanted);
        return {reinterpret_cast<std::byte*>(data_) + end_, capacity_ - end_};
    }
    std::size_t space() const noexcept { return capacity_ - end_; }
    void filled(std::size_t n) noexcept { end_ += n; }

  private:
    static constexpr std::size_t small_bytes = 2048, keep_bytes = 16 << 10;

    void make_room(std::size_t wanted) {
        const std::size_t kept = end_ - begin_;
        if (begin_ > floor_ && capacity_ - floor_ - kept >= wanted) {
            std::memmove(data_ + floor_, data_ + begin_, kept);
            begin_ = floor_;
            end_ = floor_ + kept;
            return;
        }
        std::size_t capacity = 2 * small_bytes;
        while (capacity < kept + wanted) capacity *= 2;
        std::unique_ptr<char[]> fresh(new char[capacity]); // not zeroed
        std::memcpy(fresh.get(), data_ + begin_, kept);
        if (pinned_ && !old_) old_ = std::move(large_); // pinned bytes are in the first buffer of a request
        large_ = std::move(fresh);
        data_ = large_.get();
        capacity_ = capacity;
        begin_ = floor_ = 0;
        end_ = kept;
    }
    void use_small() noexcept {
        large_.reset();
        data_ = small_;
        capacity_ = small_bytes;
    }

    char* data_ = small_;
    std::size_t capacity_ = small_bytes;
    std::size_t floor_ = 0, begin_ = 0, end_ = 0; // pinned | free | unread | free
    bool pinned_ = false;
    std::unique_ptr<char[]> large_, old_;
    char small_[small_bytes];
};

/// A connection's two directions. One strand reads and one writes.
class wire : private late_flush {
  public:
    explicit wire(link& below) noexcept
        : late_flush([](late_flush& f) { (void)static_cast<wire&>(f).write({}); })
        , link_(below) {}

    link& below() const noexcept { return link_; }
    input_buffer& in() noexcept { return in_; }
    const input_buffer& in() const noexcept { return in_; }

    /// Waits for more bytes behind the unread ones. 0: the peer has closed.
    result<std::size_t> fill(std::size_t room) {
        auto got = link_.read(in_.room(room));
        if (got) in_.filled(*got);
        return got;
    }

    /// Output is collected there from now on; null: nowhere. Precondition: nothing waits.
    void collect_in(std::string* out) noexcept {
        take_back();
        out_ = out;
    }
    /// Where to append what shall be sent by the next send().
    std::string& out() noexcept {
        take_back();
        return *out_;
    }
    /// What waits is sent although nobody asks, when it takes long until the next use of the output.
    void let_wait() {
        if (!out_->empty()) lend();
    }
    /// Sends what waits, and then more, in one system call. After the first error everything fails with it.
    std::error_code send(std::initializer_list<std::string_view> more = {}) {
        take_back();
        return write(more);
    }
    /// The first error of sending.
    std::error_code broken() noexcept {
        take_back();
        return broken_;
    }

  private:
    std::error_code write(std::initializer_list<std::string_view> more) {
        if (broken_) return broken_;
        ::iovec pieces[4];
        std::size_t n = 0;
        auto add = [&](std::string_view s) {
            if (!s.empty()) pieces[n++] = {const_cast<char*>(s.data()), s.size()};
        };
        if (out_) add(*out_);
        for (std::string_view s : more) add(s);
        if (n == 0) return {};
        const auto sent = link_.writev({pieces, n});
        if (out_) out_->clear();
        if (!sent) broken_ = sent.error();
        return broken_;
    }

    link& link_;
    std::string* out_ = nullptr;
    std::error_code broken_;
    input_buffer in_;
};

} // namespace mpg::http::detail
