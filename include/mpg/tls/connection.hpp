// A TLS connection: an engine, a stream below it, and who may do what when.
//
// Who may touch what. As with Go's tls.Conn, one strand reads while another one writes, and anybody closes.
//   engine_    under mutex_, which is held for calls into OpenSSL only and never over a suspension. So
//   OpenSSL
//              sees one caller at a time, each on one thread.
//   below_     is read from by the holder of the turn `reading_`, written to by the holder of `writing_`; the
//              handshake's, which `handshaking_` makes one, comes before both. Input is put into the engine's
//              buffer without the mutex: nobody else fills, and OpenSSL has emptied it before it asked.
//   in_kernel_ is set by the handshake's last step. From then on records are made by the kernel, of what is
//              written below, and unsent_ holds nothing but alerts.
//   unsent_    belongs to the holder of `writing_`. Records must leave in the order in which OpenSSL has made
//              them; whoever holds `writing_` takes all that has come out, under mutex_, and sends that
//              before it takes more.
// Waits nest in one order: handshaking_ | reading_ -> writing_ by try alone | writing_ -> reading_ -> mutex_.
// Each holder of a turn waits for the peer only, with its own direction's deadline, so whoever waits for a
// turn gets it when that deadline passes or the stream is closed; and its own context ends its wait for the
// turn.
//
// A reader makes output, too (alerts, answers to key updates). It sends that when nobody writes. If somebody
// does (its try for `writing_` fails), the writer looks for output after it has given the turn back: the
// reader's output came before its try, the try before the writer's release, that before the writer's look.
//
// A write that is cancelled leaves unsent_ as it is: later writes send the rest first, so the records stay
// whole and the stream can be used on. (Go's breaks for good.)
#pragma once

#include <mpg/base/atomic.hpp>
#include <mpg/base/clock.hpp>
#include <mpg/cancel/context.hpp>
#include <mpg/io/result.hpp>
#include <mpg/sched/wait.hpp>
#include <mpg/sync/mutex.hpp>
#include <mpg/sync/semaphore.hpp>
#include <mpg/tls/engine.hpp>
#include <mpg/tls/transport.hpp>
#include <mpg/tls/turn.hpp>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <system_error>
#include <utility>

#include <sys/uio.h>

namespace mpg::tls::detail {

class connection {
  public:
    connection(std::shared_ptr<const config_state> c, std::string server_name, std::string session_key,
               std::unique_ptr<transport> below)
        : engine_(std::move(c), std::move(server_name), std::move(session_key))
        , below_(std::move(below)) {}
    ~connection() { close(); }

    std::error_code handshake(const context& ctx);
    result<std::size_t> read(std::span<std::byte> to, const context& ctx);
    /// all: until all is written; else some of it.
    result<std::size_t> write(std::span<const std::byte> from, const context& ctx, bool all);
    result<std::size_t> writev(std::span<const ::iovec> pieces, const context& ctx);
    /// What descriptor_access::lend says.
    template <class F> result<io::outcome> lend_descriptor(const context& ctx, F f);
    std::error_code close_write(const context& ctx);
    /// No more can be written; says so to the peer if that needs no waiting.
    void close_write_now() noexcept;
    void close() noexcept;
    bool is_open() const noexcept { return !closed_.load(std::memory_order_relaxed); }

    std::error_code set_read_deadline(std::optional<time_point> when) noexcept {
        read_deadline_.store(nanos_of(when), std::memory_order_relaxed);
        return below_->set_read_deadline(when);
    }
    std::error_code set_write_deadline(std::optional<time_point> when) noexcept {
        write_deadline_.store(nanos_of(when), std::memory_order_relaxed);
        return below_->set_write_deadline(when);
    }
    /// Null before the handshake is through.
    const connection_state* state() const noexcept { return is_through() ? &state_ : nullptr; }
    transport& below() const noexcept { return *below_; }
    /// What a read might find right now: bytes may turn out to be no data of the peer's.
    transport::coming peek() noexcept {
        {
            sched::no_unwind short_wait;
            const std::lock_guard lock(mutex_);
            if (engine_.has_input()) return transport::coming::bytes;
        }
        return below_->peek();
    }

  private:
    using progress = engine::progress;
    static constexpr std::size_t chunk = 32 << 10;       // encrypted at once: two records
    static constexpr std::size_t gathered = 16 << 10;    // of pieces: one record
    static constexpr std::size_t most_output = 64 << 10; // that answers the peer while our writer is held up

    static base::nanos nanos_of(std::optional<time_point> when) noexcept {
        return when ? base::to_nanos(*when) : base::never;
    }
    bool is_through() const noexcept {
        return through_.load(std::memory_order_acquire); // pairs with: finish
    }
    /// Before an operation: what makes it fail although it might not have to wait.
    std::error_code hindrance(const base::atomic<base::nanos>& deadline, const context& ctx) const noexcept {
        if (closed_.load(std::memory_order_relaxed)) return mpg::errc::closed;
        if (ctx.is_done()) return ctx.err();
        const base::nanos d = deadline.load(std::memory_order_relaxed);
        if (d != base::never && d <= base::now()) return mpg::errc::deadline_exceeded;
        return {};
    }
    /// One step of the engine.
    template <class F> progress step(F f) {
        const std::lock_guard lock(mutex_);
        return f(engine_);
    }

    std::error_code run_handshake(const context& ctx);
    std::error_code finish();
    void choose_certificate();
    void say_key_log();
    std::error_code fill(const context& ctx);
    std::error_code send(const context& ctx);
    void send_if_free(const context& ctx);
    std::error_code encrypt(std::span<const std::byte> piece, const context& ctx);
    template <class F> result<std::size_t> writing(const context& ctx, F f);
    bool hand_over();

    mutex mutex_;
    engine engine_; // guarded by mutex_
    const std::unique_ptr<transport> below_;
    semaphore handshaking_{1}, reading_{1}, writing_{1};
    std::string unsent_;               // belongs to writing_
    std::size_t sent_ = 0;             // of unsent_; belongs to writing_
    bool write_ended_ = false;         // belongs to writing_
    bool in_kernel_ = false;           // written before through_
    std::error_code handshake_failed_; // belongs to handshaking_
    connection_state state_;           // written before through_
    base::atomic<bool> through_{false}, closed_{false};
    base::atomic<base::nanos> read_deadline_{base::never}, write_deadline_{base::never};
};

// ---- the stream below

/// Gets more input. The caller may read below.
inline std::error_code connection::fill(const context& ctx) {
    const std::span<std::byte> room = engine_.in().room();
    const auto n = below_->read(room, ctx);
    if (!n) return n.error();
    const std::lock_guard lock(mutex_);
    engine_.in().filled(*n);
    return {};
}

/// Sends what the engine has put out. The caller holds writing_.
inline std::error_code connection::send(const context& ctx) {
    for (;;) {
        while (sent_ != unsent_.size()) {
            const auto rest = std::as_bytes(std::span(unsent_)).subspan(sent_);
            if (in_kernel_) {
                if (const std::error_code e = below_->write_alert(rest.first(2), ctx)) return e;
                sent_ += 2;
                continue;
            }
            const auto n = below_->write_some(rest, ctx);
            if (!n) return n.error();
            sent_ += *n;
        }
        unsent_.clear();
        sent_ = 0;
        const std::lock_guard lock(mutex_);
        if (engine_.output().empty()) {
            unsent_ = std::string(); // an idle connection keeps no buffer
            return {};
        }
        unsent_.swap(engine_.output());
    }
}

/// For output that nobody waits for.
inline void connection::send_if_free(const context& ctx) {
    for (;;) {
        {
            const std::lock_guard lock(mutex_);
            if (engine_.output().empty()) return;
        }
        turn mine(writing_);
        if (!mine.try_take() || send(ctx)) return;
    }
}

// ---- ending

inline std::error_code connection::close_write(const context& ctx) {
    if (const std::error_code e = hindrance(write_deadline_, ctx)) return e;
    if (!is_through()) return std::make_error_code(std::errc::not_connected);
    turn mine(writing_);
    if (const std::error_code e = mine.take(ctx)) return e;
    if (!write_ended_) {
        write_ended_ = true;
        const std::lock_guard lock(mutex_);
        engine_.write_end();
    }
    return send(ctx);
}

inline void connection::close_write_now() noexcept {
    sched::no_unwind short_wait; // mutex_ is held for a call of OpenSSL's
    turn mine(writing_);
    if (!is_through() || !mine.try_take()) return;
    std::string more;
    {
        const std::lock_guard lock(mutex_);
        if (!write_ended_) engine_.write_end();
        more.swap(engine_.output());
    }
    write_ended_ = true;
    for (int round = 0; round != 2; ++round) {
        const auto rest = std::as_bytes(std::span(unsent_)).subspan(sent_);
        if (!in_kernel_) {
            if (!rest.empty()) sent_ += below_->try_write(rest);
        } else {
            while (sent_ != unsent_.size() &&
                   below_->try_alert(std::as_bytes(std::span(unsent_)).subspan(sent_, 2)))
                sent_ += 2;
        }
        if (sent_ != unsent_.size()) break;
        sent_ = 0;
        unsent_.swap(more);
        more.clear();
    }
}

inline void connection::close() noexcept {
    if (closed_.exchange(true, std::memory_order_relaxed)) return;
    close_write_now();
    // A server has sent tickets, which a client that does not read leaves where they are; and closing a
    // socket with unread bytes throws away what it has not sent yet.
    if (is_through()) below_->discard_input();
    below_->close();
}

} // namespace mpg::tls::detail

#include <mpg/tls/connection_data.hpp>
#include <mpg/tls/connection_handshake.hpp>
