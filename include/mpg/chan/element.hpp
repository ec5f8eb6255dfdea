// How elements of a type travel through a channel.
#pragma once

#include <mpg/chan/core.hpp>

#include <cstddef>
#include <memory>
#include <new>
#include <optional>
#include <type_traits>
#include <utility>

namespace mpg::channels {

/// The element of chan<void>: it is counted, not stored.
struct nothing {};

template <class T> using element_of = std::conditional_t<std::is_void_v<T>, nothing, T>;

/// Larger elements are not moved under a lock.
inline constexpr std::size_t largest_inline_element = 1024;

/// True: the element stands in the ring itself and is moved under the channel's spinlock, together with the
/// destructor of the moved-from value. False: its move may throw or takes long; it is moved without the lock
/// (boxed.hpp).
template <class T>
inline constexpr bool
    inline_element = std::is_nothrow_move_constructible_v<T>&& std::is_nothrow_destructible_v<T> &&
                     (std::is_nothrow_move_assignable_v<T> ||
                      !std::is_move_assignable_v<T>)&&sizeof(T) <= largest_inline_element;

/// A few bytes that no code of a user's copies: such an element is received in registers, and its operations are of a size
/// that allows for a wait of their own.
template <class T>
inline constexpr bool in_registers = std::is_same_v<T, nothing> || (std::is_scalar_v<T> && sizeof(T) <= 8);

/// A heap cell for an element whose move may throw: the ring holds pointers to it.
template <class T> struct box {
    T value;
    explicit box(T&& v)
        : value(std::move(v)) {}
};

/// What a slot of the ring holds.
template <class T> using slot_of = std::conditional_t<inline_element<T>, T, std::unique_ptr<box<T>>>;

/// emit_fn of a source of type V (a reference type): moves or copies it as V says.
template <class T, class V> void emit_as(void* from, void* where, bool optional) noexcept {
    auto& source = *static_cast<std::remove_const_t<std::remove_reference_t<V>>*>(from);
    if (optional)
        static_cast<std::optional<T>*>(where)->emplace(static_cast<V>(source));
    else
        ::new (where) T(static_cast<V>(source));
}

/// v = std::move(from), also for types that can be constructed only.
template <class T> void move_into(T& v, T&& from) noexcept(inline_element<T>) {
    if constexpr (std::is_move_assignable_v<T>) {
        v = std::move(from);
    } else {
        std::destroy_at(&v);
        std::construct_at(&v, std::move(from));
    }
}

} // namespace mpg::channels
