// Call frame information: where a function's caller is found, read from the .eh_frame that exceptions need too.
//
// Exceptions are unwound by libgcc, which can only start from the stack that it runs on. We unwind stacks at rest, of
// other tasks and threads, from copies. So the tables are found by libgcc (_Unwind_Find_FDE), and interpreted here: a
// row of the table for one program counter. Rows are remembered: a dump of 100,000 tasks has a few hundred of them.
// DWARF 5, 6.4; LSB 5, 10.6.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <unordered_map>
#include <vector>

extern "C" {
struct mpg_eh_bases { // libgcc's dwarf_eh_bases
    void *text, *data, *function;
};
const void* mpg_find_fde(void* pc, mpg_eh_bases* bases) __asm__("_Unwind_Find_FDE");
}

namespace mpg::debug::detail {

#if defined(__x86_64__)
inline constexpr unsigned frame_registers = 17, stack_register = 7, frame_pointer = 6;
#else
inline constexpr unsigned frame_registers = 32, stack_register = 31, frame_pointer = 29;
#endif

/// How a register of the caller is found.
struct frame_rule {
    enum class kind : std::uint8_t { same, undefined, at_cfa, is_cfa, in_register, at_expression, is_expression };
    kind what = kind::same;
    std::int64_t n = 0;                       // offset, register or length of the expression
    const unsigned char* expression = nullptr;
};

/// A row of the table.
struct frame_row {
    bool found = false;
    bool signal = false;         // the caller was interrupted: its pc is no return address
    bool signed_address = false; // aarch64: pointer authentication
    unsigned return_register = 0;
    frame_rule cfa; // in_register (plus offset) or is_expression
    unsigned cfa_register = 0;
    std::array<frame_rule, frame_registers> registers{};
};

/// A cursor in DWARF data.
struct dwarf_reader {
    const unsigned char *at, *end;

    bool more() const noexcept { return at < end; }
    std::uint64_t fixed(unsigned bytes) noexcept {
        std::uint64_t v = 0;
        if (static_cast<std::size_t>(end - at) < bytes) {
            at = end;
            return 0;
        }
        std::memcpy(&v, at, bytes);
        at += bytes;
        return v;
    }
    std::int64_t fixed_signed(unsigned bytes) noexcept {
        unsigned shift = 64 - 8 * bytes;
        return static_cast<std::int64_t>(fixed(bytes) << shift) >> shift;
    }
    std::uint64_t unsigned_leb() noexcept {
        std::uint64_t v = 0;
        for (unsigned shift = 0; more(); shift += 7) {
            unsigned char b = *at++;
            if (shift < 64) v |= static_cast<std::uint64_t>(b & 0x7f) << shift;
            if (!(b & 0x80)) break;
        }
        return v;
    }
    std::int64_t signed_leb() noexcept {
        std::uint64_t v = 0;
        unsigned shift = 0;
        unsigned char b = 0;
        while (more()) {
            b = *at++;
            if (shift < 64) v |= static_cast<std::uint64_t>(b & 0x7f) << shift;
            shift += 7;
            if (!(b & 0x80)) break;
        }
        if (shift < 64 && (b & 0x40)) v |= ~std::uint64_t{0} << shift;
        return static_cast<std::int64_t>(v);
    }
    /// Skips a pointer in the encoding of an augmentation.
    void skip_encoded(unsigned char encoding) noexcept {
        switch (encoding & 0x0f) {
        case 0x01: (void)unsigned_leb(); break;
        case 0x09: (void)signed_leb(); break;
        case 0x02: case 0x0a: (void)fixed(2); break;
        case 0x03: case 0x0b: (void)fixed(4); break;
        default: (void)fixed(8); break;
        }
    }
    void skip(std::uint64_t n) noexcept {
        at = n < static_cast<std::uint64_t>(end - at) ? at + n : end;
    }
};

/// The program of a table, run up to one pc.
class frame_program {
  public:
    static frame_row row_of(std::uint64_t pc) noexcept {
        frame_row row;
        mpg_eh_bases bases{};
        const auto* fde = static_cast<const unsigned char*>(mpg_find_fde(reinterpret_cast<void*>(pc), &bases));
        if (!fde) return row;
        frame_program p;
        p.run(fde, reinterpret_cast<std::uint64_t>(bases.function), pc, row);
        return row;
    }

  private:
    struct state {
        frame_rule cfa;
        unsigned cfa_register = 0;
        std::array<frame_rule, frame_registers> registers{};
    };

    static dwarf_reader entry(const unsigned char* p) noexcept {
        std::uint32_t length;
        std::memcpy(&length, p, 4);
        if (length == 0xffffffffu) return {p, p}; // 64-bit DWARF does not occur here
        return {p + 4, p + 4 + length};
    }

    void run(const unsigned char* fde, std::uint64_t start, std::uint64_t pc, frame_row& row) noexcept {
        dwarf_reader f = entry(fde);
        const unsigned char* here = f.at;
        const unsigned char* cie = here - f.fixed_signed(4);
        dwarf_reader c = entry(cie);
        (void)c.fixed(4);
        auto version = c.fixed(1);
        const char* augmentation = reinterpret_cast<const char*>(c.at);
        while (c.more() && *c.at++) {}
        if (version >= 4) (void)c.fixed(2);
        code_align_ = c.unsigned_leb();
        data_align_ = c.signed_leb();
        row.return_register = static_cast<unsigned>(version == 1 ? c.fixed(1) : c.unsigned_leb());
        unsigned char encoding = 0;
        bool sized = *augmentation == 'z';
        if (sized) {
            std::uint64_t length = c.unsigned_leb();
            dwarf_reader a{c.at, c.at + length};
            c.skip(length);
            for (const char* s = augmentation + 1; *s; ++s) switch (*s) {
                case 'R': encoding = static_cast<unsigned char>(a.fixed(1)); break;
                case 'P': a.skip_encoded(static_cast<unsigned char>(a.fixed(1))); break;
                case 'L': (void)a.fixed(1); break;
                case 'S': row.signal = true; break;
                default: break;
                }
        } else if (*augmentation) {
            return;
        }
        f.skip_encoded(encoding);
        f.skip_encoded(encoding & 0x0f);
        if (sized) {
            std::uint64_t length = f.unsigned_leb();
            f.skip(length);
        }
        std::uint64_t location = start;
        if (!execute(c, location, ~std::uint64_t{0}, row)) return;
        initial_ = now_;
        if (!execute(f, location, pc, row)) return;
        row.cfa = now_.cfa;
        row.cfa_register = now_.cfa_register;
        row.registers = now_.registers;
        row.found = row.return_register < frame_registers;
    }

    void set(std::uint64_t reg, frame_rule::kind what, std::int64_t n = 0, const unsigned char* e = nullptr) noexcept {
        if (reg < frame_registers) now_.registers[reg] = {what, n, e};
    }
    void set_cfa(std::uint64_t reg, std::int64_t offset) noexcept {
        now_.cfa = {frame_rule::kind::in_register, offset, nullptr};
        now_.cfa_register = static_cast<unsigned>(reg);
    }
    void expression(std::uint64_t reg, frame_rule::kind what, dwarf_reader& r) noexcept {
        std::uint64_t length = r.unsigned_leb();
        set(reg, what, static_cast<std::int64_t>(length), r.at);
        r.skip(length);
    }

    bool execute(dwarf_reader r, std::uint64_t& location, std::uint64_t pc, frame_row& row) noexcept {
        using kind = frame_rule::kind;
        while (r.more() && location <= pc) {
            auto op = static_cast<unsigned char>(r.fixed(1));
            unsigned low = op & 0x3f;
            switch (op & 0xc0) {
            case 0x40: location += low * code_align_; continue;
            case 0x80: set(low, kind::at_cfa, static_cast<std::int64_t>(r.unsigned_leb()) * data_align_); continue;
            case 0xc0:
                if (low < frame_registers) now_.registers[low] = initial_.registers[low];
                continue;
            default: break;
            }
            std::uint64_t reg;
            switch (op) {
            case 0x00: break;                                           // nop
            case 0x02: location += r.fixed(1) * code_align_; break;     // advance_loc1
            case 0x03: location += r.fixed(2) * code_align_; break;
            case 0x04: location += r.fixed(4) * code_align_; break;
            case 0x05: reg = r.unsigned_leb(); set(reg, kind::at_cfa, static_cast<std::int64_t>(r.unsigned_leb()) * data_align_); break;
            case 0x06: // restore_extended
                reg = r.unsigned_leb();
                if (reg < frame_registers) now_.registers[reg] = initial_.registers[reg];
                break;
            case 0x07: set(r.unsigned_leb(), kind::undefined); break;
            case 0x08: set(r.unsigned_leb(), kind::same); break;
            case 0x09: reg = r.unsigned_leb(); set(reg, kind::in_register, static_cast<std::int64_t>(r.unsigned_leb())); break;
            case 0x0a: // remember_state
                if (depth_ == saved_.size()) return false;
                saved_[depth_++] = now_;
                break;
            case 0x0b: // restore_state
                if (depth_ == 0) return false;
                now_ = saved_[--depth_];
                break;
            case 0x0c: reg = r.unsigned_leb(); set_cfa(reg, static_cast<std::int64_t>(r.unsigned_leb())); break;
            case 0x0d: set_cfa(r.unsigned_leb(), now_.cfa.n); break;
            case 0x0e: set_cfa(now_.cfa_register, static_cast<std::int64_t>(r.unsigned_leb())); break;
            case 0x0f: { // def_cfa_expression
                std::uint64_t length = r.unsigned_leb();
                now_.cfa = {kind::is_expression, static_cast<std::int64_t>(length), r.at};
                r.skip(length);
                break;
            }
            case 0x10: expression(r.unsigned_leb(), kind::at_expression, r); break;
            case 0x11: reg = r.unsigned_leb(); set(reg, kind::at_cfa, r.signed_leb() * data_align_); break;
            case 0x12: reg = r.unsigned_leb(); set_cfa(reg, r.signed_leb() * data_align_); break;
            case 0x13: set_cfa(now_.cfa_register, r.signed_leb() * data_align_); break;
            case 0x14: reg = r.unsigned_leb(); set(reg, kind::is_cfa, static_cast<std::int64_t>(r.unsigned_leb()) * data_align_); break;
            case 0x15: reg = r.unsigned_leb(); set(reg, kind::is_cfa, r.signed_leb() * data_align_); break;
            case 0x16: expression(r.unsigned_leb(), kind::is_expression, r); break;
            case 0x2d: row.signed_address = !row.signed_address; break; // aarch64
            case 0x2e: (void)r.unsigned_leb(); break;                   // GNU_args_size
            default: return false;
            }
        }
        return true;
    }

    std::uint64_t code_align_ = 1;
    std::int64_t data_align_ = 1;
    state now_, initial_;
    std::array<state, 4> saved_;
    std::size_t depth_ = 0;
};

/// The rows that were looked up.
class frame_table {
  public:
    const frame_row& row(std::uint64_t pc) {
        auto [it, fresh] = rows_.try_emplace(pc);
        if (fresh) it->second = frame_program::row_of(pc);
        return it->second;
    }

  private:
    std::unordered_map<std::uint64_t, frame_row> rows_;
};

} // namespace mpg::debug::detail
