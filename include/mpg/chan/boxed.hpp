// Elements whose move may throw or takes long: the transfer in two critical sections.
//
// Moves of such elements are user code, so they run without the lock, and an exception must leave the channel
// as it was and the value with its sender. The first critical section decides *who* gives to whom and makes
// that pair (or slot) ours; then the element is moved; the second one publishes it, or undoes the decision.
//
//   hand     a receiver waits and is claimed. The sender moves straight into the receiver's result. A throw
//   sends the
//            receiver back to its queue (`again`, at the front) and leaves the sender with its value.
//   reserve  there is room: reserved + 1. The sender moves into a box of its own, then puts it into the ring,
//   or
//            gives it to a receiver that came meanwhile. A throw gives the reservation back.
//   grant    room appears while a sender waits: it is woken with the reservation made for it.
//   pull     a sender waits on an unbuffered channel and is claimed. The receiver moves straight out of the
//   sender's
//            value. A throw is the sender's: it is woken with the exception, and the receiver starts over.
//   unbox    a receiver takes a box out of the ring, whose slot stays reserved until it has moved the element
//   out. A
//            throw is the receiver's, and the box goes back to the front.
//
// So an exception of the move from the sender's value leaves send, one of the move into the receiver's result
// leaves recv, whoever ran it. While reserved > 0 a closed channel is not drained: a value may still come, or
// come back.
#pragma once

#include <mpg/chan/case.hpp>
#include <mpg/chan/channel.hpp>

#include <exception>
#include <memory>
#include <optional>
#include <utility>

namespace mpg::channels {

/// What a waiting sender's slot points to. Written by the one who has claimed it.
template <class T> struct boxed_source {
    enum class state { closed, taken, failed, granted };
    T* value;
    state now = state::closed;
    std::exception_ptr error;
};

/// What a waiting receiver's slot points to: out or into is where the element goes.
template <class T> struct boxed_target {
    enum class state { closed, delivered, boxed, again };
    std::optional<T>* out;
    T* into;
    state now = state::closed;
    std::unique_ptr<box<T>> got;

    void put(T&& v) {
        if (into)
            move_into(*into, std::move(v));
        else
            out->emplace(std::move(v));
    }
};

template <class T> boxed_source<T>& source_at(chan_waiter& w) {
    return *static_cast<boxed_source<T>*>(w.slot);
}
template <class T> boxed_target<T>& target_at(chan_waiter& w) {
    return *static_cast<boxed_target<T>*>(w.slot);
}

/// The second critical sections.
template <class T> class boxed_transfer {
  public:
    using box_ptr = std::unique_ptr<box<T>>;
    explicit boxed_transfer(channel<T>& c) noexcept
        : c_(c) {}

    /// A reservation becomes an element: at the back of the ring, or at the front (it comes back), or with a
    /// receiver, who takes the reservation over.
    void publish(box_ptr b, bool front) noexcept {
        c_.lock.lock();
        chan_waiter* peer = c_.receivers.take();
        if (peer) {
            target_at<T>(*peer).got = std::move(b);
            target_at<T>(*peer).now = boxed_target<T>::state::boxed;
        } else {
            --c_.reserved;
            front ? c_.push_front(std::move(b)) : c_.push(std::move(b));
        }
        c_.lock.unlock();
        if (peer) wake(*peer);
    }
    /// A reservation ends without an element: the place goes to a waiting sender, or the channel is drained
    /// now.
    void release() noexcept {
        waiter_list woken;
        c_.lock.lock();
        --c_.reserved;
        if (chan_waiter* sender = c_.senders.take()) {
            ++c_.reserved;
            source_at<T>(*sender).now = boxed_source<T>::state::granted;
            woken.push_back(*sender);
        } else if (c_.is_closed() && c_.reserved == 0 && c_.filled() == 0) {
            c_.receivers.take_all(woken);
        }
        c_.lock.unlock();
        while (chan_waiter* w = woken.pop_front()) wake(*w);
    }
    /// With a reservation: moves v into a box and publishes it.
    void fill(T& v) {
        box_ptr b;
        try {
            b = std::make_unique<box<T>>(std::move(v));
        } catch (...) {
            release();
            throw;
        }
        count_one();
        publish(std::move(b), false);
    }
    /// A value went in: its sender gives it away for good.
    void count_one() noexcept { c_.accepted.fetch_add(1, std::memory_order_relaxed); }
    /// With a reservation: moves the element of b to where the target wants it.
    void unbox(box_ptr b, boxed_target<T>& target) {
        try {
            target.put(std::move(b->value));
        } catch (...) {
            publish(std::move(b), true);
            throw;
        }
        release();
    }

  private:
    channel<T>& c_;
};

/// Sends from *value, which is moved from only when the send is done.
template <class T> struct boxed_send : channel_case {
    boxed_source<T> source;

    boxed_send(channel<T>* c, T* v) noexcept
        : channel_case(c, true, &ops_for<boxed_send>)
        , source{v, {}, {}} {}
    void retarget(T* v) noexcept { source.value = v; }
    channel<T>& chan() const noexcept { return static_cast<channel<T>&>(*core); }

    outcome attempt() noexcept {
        channel<T>& c = chan();
        if (c.is_closed()) return outcome::closed;
        if ((peer = c.receivers.take())) return outcome::done;
        if (c.filled() + c.reserved >= c.capacity) return outcome::blocked;
        ++c.reserved;
        return outcome::done;
    }
    bool finish() {
        if (!peer) {
            boxed_transfer<T>(chan()).fill(*source.value);
            return true;
        }
        boxed_target<T>& target = target_at<T>(*peer);
        try {
            target.put(std::move(*source.value));
            target.now = boxed_target<T>::state::delivered;
            boxed_transfer<T>(chan()).count_one();
        } catch (...) {
            target.now = boxed_target<T>::state::again;
            wake(*peer);
            throw;
        }
        wake(*peer);
        return true;
    }
    void prepare(chan_waiter& n) noexcept {
        source.now = boxed_source<T>::state::closed;
        n.slot = &source;
    }
    outcome woken(chan_waiter&) {
        using state = typename boxed_source<T>::state;
        if (source.now == state::closed) return outcome::closed;
        if (source.now == state::failed) std::rethrow_exception(std::move(source.error));
        if (source.now == state::granted) boxed_transfer<T>(chan()).fill(*source.value);
        return outcome::done;
    }
};

/// Receives into *out or *into.
template <class T> struct boxed_recv : channel_case {
    boxed_target<T> target;
    std::unique_ptr<box<T>> taken; // between attempt and finish

    boxed_recv(channel<T>* c, std::optional<T>* out, T* into = nullptr) noexcept
        : channel_case(c, false, &ops_for<boxed_recv>)
        , target{out, into, {}, {}} {}
    channel<T>& chan() const noexcept { return static_cast<channel<T>&>(*core); }

    outcome attempt() noexcept {
        channel<T>& c = chan();
        if (c.filled() != 0) {
            taken = c.pop();
            ++c.reserved;
            return outcome::done;
        }
        if (c.capacity == 0 && (peer = c.senders.take())) return outcome::done;
        return c.is_closed() && c.reserved == 0 ? outcome::closed : outcome::blocked;
    }
    bool finish() {
        if (!peer) {
            boxed_transfer<T>(chan()).unbox(std::move(taken), target);
            return true;
        }
        boxed_source<T>& source = source_at<T>(*peer);
        try {
            target.put(std::move(*source.value));
            source.now = boxed_source<T>::state::taken;
            boxed_transfer<T>(chan()).count_one();
        } catch (...) {
            source.error = std::current_exception();
            source.now = boxed_source<T>::state::failed;
        }
        bool ok = source.now == boxed_source<T>::state::taken;
        wake(*peer);
        return ok;
    }
    void prepare(chan_waiter& n) noexcept {
        target.now = boxed_target<T>::state::closed;
        n.slot = &target;
    }
    outcome woken(chan_waiter&) {
        using state = typename boxed_target<T>::state;
        switch (target.now) {
        case state::closed:
            return outcome::closed;
        case state::again:
            at_front = true;
            return outcome::blocked;
        case state::boxed:
            boxed_transfer<T>(chan()).unbox(std::move(target.got), target);
            break;
        case state::delivered:
            break;
        }
        return outcome::done;
    }
};

} // namespace mpg::channels
