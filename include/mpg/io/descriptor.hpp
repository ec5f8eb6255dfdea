// A file descriptor that strands share: who may use it now, who waits, until when, and when it may be closed.
//
// The number is closed when close() was called *and* the last operation has left, so that an operation never
// meets a number that has been given to something else. In each direction one operation has its turn, further
// ones queue; that keeps a write in one piece and allows one waiter per direction below. (Go: internal/poll,
// fd_mutex.go and fd_unix.go.)
#pragma once

#include <mpg/base/clock.hpp>
#include <mpg/base/intrusive_list.hpp>
#include <mpg/base/spinlock.hpp>
#include <mpg/io/driver.hpp>
#include <mpg/io/epoll_set.hpp>

#include <optional>
#include <system_error>
#include <utility>

namespace mpg::io {

class turn;

class descriptor {
  public:
    /// Takes the number over.
    explicit descriptor(int fd) noexcept
        : fd_(fd) {}
    descriptor(const descriptor&) = delete;
    descriptor& operator=(const descriptor&) = delete;

    /// Operations return errc::closed, pending ones soon. Idempotent; true for the first call.
    bool close() noexcept;
    /// -1 after close().
    int number() noexcept {
        lock_.lock();
        const int fd = closed_ ? -1 : fd_;
        lock_.unlock();
        return fd;
    }
    bool is_open() noexcept { return number() >= 0; }
    /// Affects pending operations. errc::closed when it is.
    std::error_code set_deadline(direction way, std::optional<time_point> when) noexcept;
    /// Calls f(fd) -> outcome, which must not wait, while the number cannot be closed; or errc::closed.
    template <class F> outcome use(F f) noexcept {
        if (!enter()) return outcome_of(errc::closed);
        const outcome r = f(fd_);
        leave();
        return r;
    }

    /// Between the two, system calls on it do not wait (O_NONBLOCK); they nest. For calls that have no flag
    /// to say so. Only by those who have a turn.
    void begin_nonblocking() noexcept;
    void end_nonblocking() noexcept;

    bool holds_more = false; // the last read has left data there; the reader's own
    /// Constant: a read may end short though data is there (Unix streams: where descriptors came with it).
    bool stops_at_borders = false;

    // For the drivers.

    epoll_slot* slot() noexcept { return slot_.load(std::memory_order_acquire); } // pairs with: enlist
    /// Registers it with set, unless it is registered with one that is alive. 1: it was not. 0: it was. Else -errno.
    outcome enlist(epoll_set& set) noexcept;

  private:
    friend class turn;
    friend class descriptor_ptr;

    struct queued : base::list_hook {
        sched::task* who = nullptr;
        operation* op = nullptr;
        bool granted = false; // the turn; else it was withdrawn: by close, a context
    };
    struct side {
        operation* active = nullptr; // of the one whose turn it is
        base::intrusive_list<queued> queue;
        base::nanos deadline = base::never;
    };

    ~descriptor() = default;
    /// With the lock held: brings all strands that wait in a direction back.
    void kick_all(direction way) noexcept {
        if (of(way).active) of(way).active->kick();
        shared_.for_each([way](operation& op) {
            if (op.way == way) op.kick();
        });
    }
    side& of(direction way) noexcept { return sides_[static_cast<unsigned>(way)]; }

    bool enter() noexcept {
        lock_.lock();
        const bool ok = !closed_;
        users_ += ok;
        lock_.unlock();
        return ok;
    }
    void leave() noexcept {
        lock_.lock();
        leave_locked();
    }
    /// Releases lock_, closes the number when this was the last user of a closed one, and frees the object
    /// when nobody has a handle either.
    void leave_locked() noexcept {
        --users_;
        const bool shut = closed_ && users_ == 0, free = shut && !owned_;
        const int fd = shut ? std::exchange(fd_, -1) : -1;
        lock_.unlock();
        if (fd >= 0) {
            delist(fd);
            sys::close(fd);
        }
        if (free) delete this;
    }
    void disown() noexcept {
        close();
        lock_.lock();
        owned_ = false;
        const bool free = users_ == 0;
        lock_.unlock();
        if (free) delete this;
    }
    void delist(int fd) noexcept {
        for (epoll_slot* s = slot_.exchange(nullptr, std::memory_order_acq_rel); s;)
            s->set->remove(std::exchange(s, s->next), fd);
    }

    base::spinlock lock_;
    bool closed_ = false; // guarded by lock_, as what follows
    bool owned_ = true;   // there is a descriptor_ptr
    int fd_;              // constant until the last user of a closed one takes it away
    std::uint32_t users_ = 0;
    std::uint32_t nonblocking_ = 0; // how many have begun and not ended
    bool made_nonblocking_ = false; // by the first of them
    side sides_[2];
    base::intrusive_list<operation> shared_;  // those at given positions, any number at once
    base::atomic<epoll_slot*> slot_{nullptr}; // written by enlist under lock_
};

/// The owner's handle: closes the descriptor when it goes. Move-only, may be empty.
class descriptor_ptr {
  public:
    descriptor_ptr() noexcept = default;
    /// Takes fd over. Throws std::bad_alloc, and then closes fd.
    explicit descriptor_ptr(int fd) {
        try {
            d_ = new descriptor(fd);
        } catch (...) {
            sys::close(fd);
            throw;
        }
    }
    descriptor_ptr(descriptor_ptr&& other) noexcept
        : d_(std::exchange(other.d_, nullptr)) {}
    descriptor_ptr& operator=(descriptor_ptr&& other) noexcept {
        if (this != &other) {
            reset();
            d_ = std::exchange(other.d_, nullptr);
        }
        return *this;
    }
    ~descriptor_ptr() { reset(); }

    void reset() noexcept {
        if (descriptor* d = std::exchange(d_, nullptr)) d->disown();
    }
    explicit operator bool() const noexcept { return d_ != nullptr; }
    descriptor* operator->() const noexcept { return d_; }
    descriptor& operator*() const noexcept { return *d_; }
    descriptor* get() const noexcept { return d_; }

  private:
    descriptor* d_ = nullptr;
};

/// The way to the descriptor of those who own one and let copy see it. May give null.
struct descriptor_access {
    template <class T>
    requires requires(T& t) { t.fd_; }
    static descriptor* of(T& t) noexcept { return t.fd_.get(); }
    /// Of a writer that has one only at times, as TLS where the kernel encrypts: calls f with it, or with null, while
    /// nobody else writes. An error, or what f has returned.
    template <class T, class F>
    requires requires(T& t, const context* ctx, F f) { t.lend_descriptor(ctx, f); }
    static auto lend(T& t, const context* ctx, F f) { return t.lend_descriptor(ctx, f); }
};

inline bool descriptor::close() noexcept {
    lock_.lock();
    if (closed_) return lock_.unlock(), false;
    closed_ = true;
    ++users_; // this call
    for (direction way : {direction::read, direction::write}) {
        while (queued* q = of(way).queue.pop_front()) sched::ready_later(q->who);
        kick_all(way);
    }
    leave_locked();
    return true;
}

inline std::error_code descriptor::set_deadline(direction way, std::optional<time_point> when) noexcept {
    const base::nanos at = when ? base::to_nanos(*when) : base::never;
    lock_.lock();
    const bool ok = !closed_;
    side& s = of(way);
    const bool sooner = at < std::exchange(s.deadline, at);
    // A later deadline needs no kick: the timer of the old one does that, and the strand arms it anew.
    if (ok && sooner) kick_all(way);
    lock_.unlock();
    return ok ? std::error_code{} : make_error_code(errc::closed);
}

inline void descriptor::begin_nonblocking() noexcept {
    // A system call under the lock, as in enlist: once in a copy.
    lock_.lock();
    if (nonblocking_++ == 0)
        made_nonblocking_ = !sys::is_nonblocking(fd_) && sys::set_nonblocking(fd_, true) >= 0;
    lock_.unlock();
}
inline void descriptor::end_nonblocking() noexcept {
    lock_.lock();
    if (--nonblocking_ == 0 && made_nonblocking_) sys::set_nonblocking(fd_, false);
    lock_.unlock();
}

inline outcome descriptor::enlist(epoll_set& set) noexcept {
    epoll_slot* known = slot();
    if (known && !known->set->closed()) return 0;
    // Once in a descriptor's life, so the system call may stand under the lock: it keeps reader and writer
    // apart.
    lock_.lock();
    outcome e = 0;
    known = slot();
    if (!known || known->set->closed()) {
        if (epoll_slot* s = set.add(fd_, e)) {
            s->next = known;                           // the other direction may look at it still
            slot_.store(s, std::memory_order_release); // pairs with: slot
            e = 1;
        }
    }
    lock_.unlock();
    return e;
}

} // namespace mpg::io
