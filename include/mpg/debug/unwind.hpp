// Unwinding a copy of a stack.
#pragma once

#include <mpg/debug/cfi.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

namespace mpg::debug::detail {

/// Registers of a line of execution that stands still. Those that are not known are left out: a frame that needs one
/// ends the unwinding.
struct register_set {
    std::uint64_t pc = 0;
    std::uint64_t known = 0; // bit i: value[i]
    std::array<std::uint64_t, frame_registers> value{};

    void set(unsigned reg, std::uint64_t v) noexcept {
        value[reg] = v;
        known |= std::uint64_t{1} << reg;
    }
    bool knows(std::uint64_t reg) const noexcept { return reg < frame_registers && (known >> reg & 1); }
    std::uint64_t sp() const noexcept { return value[stack_register]; }
};

/// The bytes of a stack, copied from address `base` on.
struct stack_copy {
    std::uint64_t base = 0;
    const std::byte* bytes = nullptr;
    std::size_t size = 0;

    bool read(std::uint64_t address, std::uint64_t& out, unsigned width = 8) const noexcept {
        if (address < base || address - base > size || size - (address - base) < width) return false;
        out = 0;
        std::memcpy(&out, bytes + (address - base), width);
        return true;
    }
};

/// Program counters, innermost first. All but the first (and what a signal interrupted) are return addresses.
using call_stack = std::vector<std::uint64_t>;

struct hash_frames {
    std::size_t operator()(const call_stack& s) const noexcept {
        std::size_t h = s.size();
        for (std::uint64_t pc : s) h = (h ^ pc) * 0x9e3779b97f4a7c15u;
        return h ^ h >> 32;
    }
};

/// Not thread-safe: it remembers what it has looked up.
class unwinder {
  public:
    static constexpr std::size_t most_frames = 128;

    /// Unwinds to the end, or as far as the copy goes. Addresses of calls are given as return address minus one, so
    /// that a look-up finds the call. False: it was cut short.
    bool unwind(register_set r, const stack_copy& stack, call_stack& out) {
        out.clear();
        std::uint64_t pc = r.pc;
        while (pc != 0 && out.size() < most_frames) {
            out.push_back(pc);
            const frame_row& row = table_.row(pc);
            if (!row.found) return false;
            register_set caller;
            if (!step(r, row, stack, caller)) return false;
            if (caller.pc == 0) return true;
            if (caller.sp() < r.sp()) return false; // stacks grow downwards: this is none
            pc = row.signal ? caller.pc : caller.pc - 1;
            r = caller;
        }
        return pc == 0;
    }

  private:
    using kind = frame_rule::kind;

    static bool step(const register_set& r, const frame_row& row, const stack_copy& stack, register_set& caller) {
        std::uint64_t cfa = 0;
        if (row.cfa.what == kind::in_register) {
            if (!r.knows(row.cfa_register)) return false;
            cfa = r.value[row.cfa_register] + static_cast<std::uint64_t>(row.cfa.n);
        } else if (!evaluate(r, row.cfa, stack, false, 0, cfa)) {
            return false;
        }
        caller.set(stack_register, cfa);
        for (unsigned i = 0; i < frame_registers; ++i) {
            const frame_rule& rule = row.registers[i];
            std::uint64_t v = 0;
            switch (rule.what) {
            case kind::same:
                if (i == stack_register || !r.knows(i) || i == row.return_register) continue;
                v = r.value[i];
                break;
            case kind::undefined: continue;
            case kind::at_cfa:
                if (!stack.read(cfa + static_cast<std::uint64_t>(rule.n), v)) continue;
                break;
            case kind::is_cfa: v = cfa + static_cast<std::uint64_t>(rule.n); break;
            case kind::in_register:
                if (!r.knows(static_cast<std::uint64_t>(rule.n))) continue;
                v = r.value[static_cast<std::size_t>(rule.n)];
                break;
            case kind::at_expression:
                if (!evaluate(r, rule, stack, true, cfa, v) || !stack.read(v, v)) continue;
                break;
            case kind::is_expression:
                if (!evaluate(r, rule, stack, true, cfa, v)) continue;
                break;
            }
            caller.set(i, v);
        }
        const frame_rule& back = row.registers[row.return_register];
        if (back.what == kind::undefined) {
            caller.pc = 0; // the outermost frame
            return true;
        }
#if defined(__aarch64__)
        if (back.what == kind::same && r.knows(row.return_register)) // a leaf: still in its register
            caller.set(row.return_register, r.value[row.return_register]);
#endif
        if (!caller.knows(row.return_register)) return false;
        caller.pc = caller.value[row.return_register];
        if (row.signed_address) caller.pc &= 0x0000'7fff'ffff'ffffu;
        return true;
    }

    /// DWARF expressions, as far as tables of .eh_frame use them (procedure linkage tables, signal frames).
    static bool evaluate(const register_set& r, const frame_rule& rule, const stack_copy& stack, bool push,
                         std::uint64_t first, std::uint64_t& out) {
        std::array<std::uint64_t, 16> s{};
        std::size_t n = 0;
        if (push) s[n++] = first;
        dwarf_reader e{rule.expression, rule.expression + rule.n};
        while (e.more()) {
            auto op = static_cast<unsigned>(e.fixed(1));
            if (n + 1 >= s.size()) return false;
            if (op >= 0x30 && op <= 0x4f) { // lit
                s[n++] = op - 0x30;
            } else if (op >= 0x70 && op <= 0x8f) { // breg
                unsigned reg = op - 0x70;
                std::int64_t offset = e.signed_leb();
#if defined(__x86_64__)
                if (reg == 16) { // the return address column: the pc itself
                    s[n++] = r.pc + static_cast<std::uint64_t>(offset);
                    continue;
                }
#endif
                if (!r.knows(reg)) return false;
                s[n++] = r.value[reg] + static_cast<std::uint64_t>(offset);
            } else if (op >= 0x08 && op <= 0x0f) { // const1u .. const8s
                unsigned width = 1u << ((op - 0x08) / 2);
                s[n++] = op & 1 ? static_cast<std::uint64_t>(e.fixed_signed(width)) : e.fixed(width);
            } else if (op == 0x10) {
                s[n++] = e.unsigned_leb();
            } else if (op == 0x11) {
                s[n++] = static_cast<std::uint64_t>(e.signed_leb());
            } else if (n == 0) {
                return false;
            } else if (op == 0x06) { // deref
                if (!stack.read(s[n - 1], s[n - 1])) return false;
            } else if (op == 0x94) {
                if (!stack.read(s[n - 1], s[n - 1], static_cast<unsigned>(e.fixed(1)) & 15)) return false;
            } else if (op == 0x12) { // dup
                s[n] = s[n - 1];
                ++n;
            } else if (op == 0x13) { // drop
                --n;
            } else if (op == 0x23) { // plus_uconst
                s[n - 1] += e.unsigned_leb();
            } else if (n < 2) {
                return false;
            } else {
                std::uint64_t b = s[--n], a = s[n - 1];
                auto sa = static_cast<std::int64_t>(a), sb = static_cast<std::int64_t>(b);
                switch (op) {
                case 0x1a: a &= b; break;
                case 0x1c: a -= b; break;
                case 0x1e: a *= b; break;
                case 0x21: a |= b; break;
                case 0x22: a += b; break;
                case 0x24: a = b < 64 ? a << b : 0; break;
                case 0x25: a = b < 64 ? a >> b : 0; break;
                case 0x29: a = sa == sb; break;
                case 0x2a: a = sa >= sb; break;
                case 0x2b: a = sa > sb; break;
                case 0x2c: a = sa <= sb; break;
                case 0x2d: a = sa < sb; break;
                case 0x2e: a = sa != sb; break;
                default: return false;
                }
                s[n - 1] = a;
            }
        }
        if (n == 0) return false;
        out = s[n - 1];
        return true;
    }

    frame_table table_;
};

} // namespace mpg::debug::detail
