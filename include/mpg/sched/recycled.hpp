// Small objects that are made and dropped all the time: their memory goes round in the P.
#pragma once

#include <mpg/base/config.hpp>
#include <mpg/base/wipe.hpp>

#include <cstddef>
#include <cstdint>
#include <new>

namespace mpg::sched {

/// Free blocks of operator new, by size: a P's own. No locks. A block may be given back to another P than it came from;
/// what is more than a P keeps goes back to operator new's own pools, as do all when the P ends.
class block_cache {
  public:
    static constexpr std::size_t step = 32, largest = 512;
    static constexpr std::size_t most_kept = 512 << 10; // bytes; a tree of 1000 contexts takes half of it
    static constexpr std::size_t most_blocks = most_kept / step + 1;

    block_cache() = default;
    block_cache(const block_cache&) = delete;
    block_cache& operator=(const block_cache&) = delete;
    ~block_cache() {
        for (block*& list : lists_)
            while (block* b = list) {
                list = b->next;
                base::wipe(b, static_cast<std::size_t>(&list - lists_ + 1) * step);
                ::operator delete(b);
            }
    }

    /// Null: none is left. bytes: 1 to largest.
    void* take(std::size_t bytes) noexcept {
        block*& list = lists_[(bytes - 1) / step];
        block* b = list;
        if (!b) return nullptr;
        list = b->next;
        kept_ -= rounded(bytes);
        return b;
    }
    /// False: enough are kept. bytes: as for take, and what the block was taken for.
    bool give(void* memory, std::size_t bytes) noexcept {
        if (kept_ >= most_kept) return false;
        block*& list = lists_[(bytes - 1) / step];
        list = ::new (memory) block{list};
        kept_ += rounded(bytes);
        return true;
    }
    /// f(address, bytes) for each that is kept, until it says false.
    template <class F> bool each(F f) const {
        for (std::size_t i = 0; i < largest / step; ++i)
            for (const block* b = lists_[i]; b; b = b->next)
                if (!f(b, (i + 1) * step)) return false;
        return true;
    }
    /// What a block for so many bytes has, so that it will do for all that share its list.
    static constexpr std::size_t rounded(std::size_t bytes) noexcept { return (bytes + step - 1) / step * step; }

  private:
    struct block {
        block* next;
    };
    block* lists_[largest / step] = {};
    std::size_t kept_ = 0; // bytes, of all lists
};

/// Memory for an object of so many bytes, aligned as by operator new: of the P, else of operator new. Throws
/// std::bad_alloc. From anywhere; some 3 ns. Sanitizer builds leave it to operator new, so that they see each lifetime.
void* take_block(std::size_t bytes);
/// bytes: as for take_block.
void give_block(void* memory, std::size_t bytes) noexcept;

/// Base of a class whose objects are made by new and dropped by delete, maybe by another strand and on another P. The
/// class, or the one that derives from it last, is final or has a virtual destructor.
struct recycled {
    static void* operator new(std::size_t bytes) { return take_block(bytes); }
    static void operator delete(void* memory, std::size_t bytes) noexcept { give_block(memory, bytes); }
};

} // namespace mpg::sched
