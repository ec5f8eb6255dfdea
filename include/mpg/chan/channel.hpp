// The typed half of a channel: the ring, and the two attempts for elements that may be moved under the lock.
#pragma once

#include <mpg/chan/core.hpp>
#include <mpg/chan/element.hpp>

#include <cstddef>
#include <limits>
#include <memory>
#include <new>
#include <optional>
#include <stdexcept>
#include <type_traits>
#include <utility>

namespace mpg::channels {

/// A channel of T (nothing for void). One allocation holds it and its ring. It dies with its last handle, and
/// then drops what is left in it; so a channel that holds handles to itself does not die.
template <class T> class channel : public channel_core {
  public:
    using slot = slot_of<T>;

    /// Throws std::length_error when the ring could not be addressed, std::bad_alloc.
    static channel* make(std::size_t places) {
        constexpr std::size_t most = static_cast<std::size_t>(std::numeric_limits<std::ptrdiff_t>::max()) / 2;
        std::size_t stored = counted_only ? 1 : places;
        if (stored > (most - header) / sizeof(slot))
            throw std::length_error("mpg: capacity of channel too large");
        void* memory = allocate(header + stored * sizeof(slot));
        auto* made = ::new (memory) channel(places, static_cast<std::byte*>(memory) + header);
        made->destroy = [](channel_core& c) noexcept {
            auto* self = static_cast<channel*>(&c);
            self->~channel();
            deallocate(self);
        };
        return made;
    }

    // The attempts. Precondition: the lock is held. Those for inline elements only.
    // done with a peer: the peer is ours; wake it after the unlock.

    /// Builds the element from v when somebody waits for it or there is room.
    template <class V> MPG_ALWAYS_INLINE outcome offer(V&& v, chan_waiter*& peer) noexcept {
        if (is_closed()) [[unlikely]]
            return outcome::closed;
        if (!receivers.empty() && (peer = receivers.take())) {
            static_cast<std::optional<T>*>(peer->slot)->emplace(std::forward<V>(v));
            peer->ok = true;
            count_one();
            return outcome::done;
        }
        if (filled() >= capacity) return outcome::blocked;
        push(std::forward<V>(v));
        return outcome::done;
    }

    /// Moves the oldest element to out. When a sender waits, the channel is full: its element takes the freed
    /// slot, which is the last one now.
    MPG_ALWAYS_INLINE outcome take(std::optional<T>& out, chan_waiter*& peer) noexcept {
        if (std::size_t n = filled()) {
            slot& first = at(head);
            out.emplace(std::move(first));
            std::destroy_at(&first);
            if (!senders.empty() && (peer = senders.take())) {
                peer->emit(peer->slot, &first, false);
                peer->ok = true;
                count_one();
            } else {
                set_filled(n - 1);
            }
            head = next(head);
            return outcome::done;
        }
        if (!senders.empty() && (peer = senders.take())) {
            peer->emit(peer->slot, &out, true);
            peer->ok = true;
            count_one();
            return outcome::done;
        }
        return is_closed() ? outcome::closed : outcome::blocked;
    }

    /// Whether a value can go into, or come out of, the ring with nobody to wake.
    bool quiet_room() const noexcept { return !is_closed() && receivers.empty() && filled() < capacity; }
    bool quiet_value() const noexcept { return filled() != 0 && senders.empty(); }

    // The ring. Precondition: the lock is held.

    template <class V> void push(V&& v) noexcept {
        std::size_t n = filled();
        if constexpr (!counted_only) {
            std::size_t tail = head + n;
            if (tail >= capacity) tail -= capacity;
            ::new (static_cast<void*>(&at(tail))) slot(std::forward<V>(v));
        }
        set_filled(n + 1);
        if constexpr (inline_element<T>) count_one();
    }
    void push_front(slot&& v) noexcept {
        head = (head == 0 ? capacity : head) - 1;
        ::new (static_cast<void*>(&at(head))) slot(std::move(v));
        set_filled(filled() + 1);
    }
    slot& front() noexcept { return at(head); }
    void drop_front() noexcept {
        std::destroy_at(&at(head));
        head = next(head);
        set_filled(filled() - 1);
    }
    slot pop() noexcept {
        slot v(std::move(front()));
        drop_front();
        return v;
    }

  protected:
    channel(std::size_t cap, void* ring) noexcept
        : channel_core(cap) {
        slots = ring;
    }
    ~channel() {
        if constexpr (!counted_only)
            for (std::size_t n = filled(), i = head; n != 0; --n, i = next(i)) std::destroy_at(&at(i));
    }

  private:
    static constexpr bool counted_only = std::is_same_v<T, nothing>;
    static constexpr std::size_t align = alignof(slot) > alignof(channel_core) ? alignof(slot)
                                                                               : alignof(channel_core);
    static constexpr std::size_t header = (sizeof(channel_core) + align - 1) / align * align;

    static void* allocate(std::size_t bytes) {
        if constexpr (align > __STDCPP_DEFAULT_NEW_ALIGNMENT__)
            return ::operator new (bytes, std::align_val_t{align});
        else
            return ::operator new(bytes);
    }
    static void deallocate(void* memory) noexcept {
        if constexpr (align > __STDCPP_DEFAULT_NEW_ALIGNMENT__)
            ::operator delete (memory, std::align_val_t{align});
        else
            ::operator delete(memory);
    }

    slot& at(std::size_t i) noexcept { return static_cast<slot*>(slots)[counted_only ? 0 : i]; }
    std::size_t next(std::size_t i) const noexcept { return i + 1 == capacity ? 0 : i + 1; }
};

} // namespace mpg::channels
