// What chan and its one-way views share: a counted reference to a channel.
#pragma once

#include <mpg/chan/channel.hpp>

#include <concepts>
#include <cstddef>
#include <functional>
#include <utility>

namespace mpg::channels {

/// Lets the last reference destroy the channel. One read-modify-write, none when it is the only one.
inline void drop(channel_core* c) noexcept {
    if (!c) return;
    // acquire: pairs with the release of those who dropped theirs before.
    if (c->refs.load(std::memory_order_acquire) == 1 || c->refs.fetch_sub(1, std::memory_order_acq_rel) == 1)
        c->destroy(*c);
}

/// A pointer to a channel that counts; null is the nil channel. Copies may be made and dropped by any thread,
/// one handle is like a plain pointer: not to be assigned while others use it.
class reference {
  public:
    reference(const reference& o) noexcept
        : c_(o.c_) {
        if (c_) c_->refs.fetch_add(1, std::memory_order_relaxed);
    }
    reference(reference&& o) noexcept
        : c_(std::exchange(o.c_, nullptr)) {}
    reference& operator=(reference o) noexcept {
        std::swap(c_, o.c_);
        return *this;
    }
    ~reference() { drop(c_); }

    /// Whether it was closed; a nil channel never is. A moment's truth, without the lock.
    bool closed() const noexcept {
        return c_ && c_->closed.load(std::memory_order_acquire);
    } // pairs with: close
    /// Elements in the buffer; 0 for nil and for the channel of a timer. A moment's truth, without the lock.
    std::size_t size() const noexcept { return c_ && !c_->looks_unbuffered ? c_->filled() : 0; }
    /// Not nil.
    explicit operator bool() const noexcept { return c_ != nullptr; }

  protected:
    reference() noexcept = default;
    /// Takes the reference over.
    explicit reference(channel_core* c) noexcept
        : c_(c) {}

  private:
    friend struct access;
    channel_core* c_ = nullptr;
};

/// A reference to a channel of T, which may be incomplete.
template <class T> class handle : public reference {
  public:
    /// Elements that the buffer can hold; 0 for nil and for the channel of a timer.
    std::size_t capacity() const noexcept;

  protected:
    using reference::reference;
    handle() noexcept = default;
};

/// The other rooms' way to the channel behind a handle, and from a channel to a handle.
struct access {
    template <class T> static channel<element_of<T>>* of(const handle<T>& h) noexcept {
        return static_cast<channel<element_of<T>>*>(h.c_);
    }
    /// Takes the reference over.
    template <class Handle> static Handle adopt(channel_core* c) noexcept { return Handle(adopted{c}); }
    /// A further reference.
    template <class Handle> static Handle share(channel_core* c) noexcept {
        if (c) c->refs.fetch_add(1, std::memory_order_relaxed);
        return Handle(adopted{c});
    }
    static channel_core* identity(const reference& h) noexcept { return h.c_; }

    struct adopted {
        channel_core* c;
    };
};

template <class T> std::size_t handle<T>::capacity() const noexcept {
    channel_core* c = access::identity(*this);
    return c && !c->looks_unbuffered ? c->capacity : 0;
}

} // namespace mpg::channels
