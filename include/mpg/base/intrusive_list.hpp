// A doubly linked FIFO of nodes that live elsewhere (mostly on the stacks of those who wait).
#pragma once

#include <cstddef>

namespace mpg::base {

/// A node; derive from it. An unlinked hook has both pointers null.
struct list_hook {
    list_hook* prev = nullptr;
    list_hook* next = nullptr;
    bool linked() const noexcept { return next != nullptr; }
};

/// Circular list of T, which derives from list_hook. No locking: its owner's lock guards it.
template <class T> class intrusive_list {
  public:
    constexpr intrusive_list() noexcept : head_{&head_, &head_} {}
    intrusive_list(const intrusive_list&) = delete;
    intrusive_list& operator=(const intrusive_list&) = delete;

    bool empty() const noexcept { return head_.next == &head_; }
    void push_back(T& node) noexcept {
        list_hook& n = node;
        n.prev = head_.prev;
        n.next = &head_;
        head_.prev->next = &n;
        head_.prev = &n;
    }
    void push_front(T& node) noexcept {
        list_hook& n = node;
        n.next = head_.next;
        n.prev = &head_;
        head_.next->prev = &n;
        head_.next = &n;
    }
    T* front() noexcept { return empty() ? nullptr : static_cast<T*>(head_.next); }
    T* pop_front() noexcept {
        T* node = front();
        if (node) erase(*node);
        return node;
    }
    T* pop_back() noexcept {
        if (empty()) return nullptr;
        T* node = static_cast<T*>(head_.prev);
        erase(*node);
        return node;
    }
    /// Precondition: node is linked in some list; which one need not be known.
    static void erase(T& node) noexcept {
        list_hook& n = node;
        n.prev->next = n.next;
        n.next->prev = n.prev;
        n.prev = n.next = nullptr;
    }
    /// Calls f(T&) in order; f may erase the node that it is given.
    template <class F> void for_each(F f) {
        for (list_hook *n = head_.next, *next; n != &head_; n = next) {
            next = n->next;
            f(*static_cast<T*>(n));
        }
    }
    /// Takes all nodes of other, behind those here.
    void splice_back(intrusive_list& other) noexcept {
        if (other.empty()) return;
        other.head_.next->prev = head_.prev;
        head_.prev->next = other.head_.next;
        other.head_.prev->next = &head_;
        head_.prev = other.head_.prev;
        other.head_.prev = other.head_.next = &other.head_;
    }

  private:
    list_hook head_;
};

} // namespace mpg::base
