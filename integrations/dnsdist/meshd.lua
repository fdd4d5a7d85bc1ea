-- meshd in dnsdist: names of the mesh go to meshd, everything else stays as it was.
--
--   dofile("/etc/dnsdist/meshd.lua")
--   meshd{
--     zones   = {"mesh.internal"},        -- asked of meshd: these names and all below them
--     servers = {"127.0.0.1:5300"},       -- meshd's DNS listeners (--dns); this is the default
--     table   = "/run/meshd/answers",     -- --table of the meshd on this machine; may be left out
--     pool    = "meshd",                  -- name of the pool that is made; this is the default
--   }
--
-- Without `table` each query is forwarded, with the client in a PROXY header. With it, answers
-- that meshd gave before come out of shared memory; what is not there is forwarded.
-- dnsdist 1.7 or newer.

-- Runs in every thread, each with a Lua state of its own; reads what meshd/answerer/table.py
-- writes and describes. It returns None, so that the query is forwarded, whenever it has doubts.
-- It is a format (the path goes in), so it holds no other percent sign. What has a loop is kept
-- apart from what has none: LuaJIT interprets a function up to its first loop, several times slower.
local reader = [==[
local PATH = %q
local ffi, bit = require("ffi"), require("bit")
local band, bxor, rshift, lshift = bit.band, bit.bxor, bit.rshift, bit.lshift

-- Another table may have declared them in this thread.
pcall(ffi.cdef, "struct meshd_time { long s; long ns; };")
pcall(ffi.cdef, "int open(const char *, int);")
pcall(ffi.cdef, "int close(int);")
pcall(ffi.cdef, "void *mmap(void *, size_t, int, int, int, long);")
pcall(ffi.cdef, "int munmap(void *, size_t);")
pcall(ffi.cdef, "long lseek(int, long, int);")
pcall(ffi.cdef, "int clock_gettime(int, struct meshd_time *);")
pcall(ffi.cdef, "int memcmp(const void *, const void *, size_t);")
local C = ffi.C
local octets, halfs, fulls, longs = ffi.typeof("const uint8_t *"), ffi.typeof("const uint16_t *"),
  ffi.typeof("const uint32_t *"), ffi.typeof("const uint64_t *")
local writable = ffi.typeof("uint8_t *")

local MAGIC, STALE_MS, RETRY_MS, PROBES = "meshdtb1", 1500, 1000, 8
local MAX_UDP, PLAIN_UDP = 1232, 512
-- To some milliseconds, and several times quicker than CLOCK_MONOTONIC.
local MONOTONIC_COARSE = 6

-- CRC-32, four octets at a time: crcs[k * 256 + n] is n followed by k octets of 0.
local crcs = ffi.new("int32_t[1024]")
for n = 0, 255 do
  local c = n
  for _ = 1, 8 do
    c = band(c, 1) == 1 and bxor(rshift(c, 1), 0xEDB88320) or rshift(c, 1)
  end
  crcs[n] = bit.tobit(c)
end
for n = 256, 1023 do
  local c = crcs[n - 256]
  crcs[n] = bxor(rshift(c, 8), crcs[band(c, 0xFF)])
end

local function crc_octet(crc, octet)
  return bxor(crcs[band(bxor(crc, octet), 0xFF)], rshift(crc, 8))
end

local function crc32(crc, bytes, from, to)
  for at = from, to - 1 do crc = crc_octet(crc, bytes[at]) end
  return crc
end

local function crc_fulls(crc, words, from, to)
  for at = from, to - 1 do
    local x = bxor(crc, words[at])
    crc = bxor(crcs[768 + band(x, 0xFF)], crcs[512 + band(rshift(x, 8), 0xFF)],
      crcs[256 + band(rshift(x, 16), 0xFF)], crcs[rshift(x, 24)])
  end
  return crc
end

local clock = ffi.new("struct meshd_time[1]")
local function now_ms()
  C.clock_gettime(MONOTONIC_COARSE, clock)
  return tonumber(clock[0].s) * 1000 + tonumber(clock[0].ns) / 1e6
end

local base, words, size, slots, slots_at
local next_try = 0

local function unmap()
  if base ~= nil then C.munmap(ffi.cast("void *", base), size) end
  base = nil
end

local function map(now)
  next_try = now + RETRY_MS
  unmap()
  local fd = C.open(PATH, 0)
  if fd < 0 then return end
  size = tonumber(C.lseek(fd, 0, 2))
  local found = size > 64 and C.mmap(nil, size, 1, 1, fd, 0) or nil
  C.close(fd)
  if found == nil or ffi.cast("intptr_t", found) == -1 then return end
  base, words = ffi.cast(octets, found), ffi.cast(fulls, found)
  if ffi.string(base, 8) ~= MAGIC then unmap() return end
  slots = words[2]
  slots_at = 16 + words[3]
end

-- Is there a table, and does somebody keep it current?
local function is_current()
  local now = now_ms()
  if base ~= nil and now - tonumber(ffi.cast(longs, base + 16)[0]) < STALE_MS then
    return true
  end
  if now >= next_try then map(now) end
  return base ~= nil and now - tonumber(ffi.cast(longs, base + 16)[0]) < STALE_MS
end

local key = ffi.new("uint8_t[300]")
local entry = ffi.new("uint8_t[2056]")
local halves, numbers = ffi.cast(halfs, entry), ffi.cast(fulls, entry)

-- Copies what is at an offset; its size if it stands under the key and still counts, else 0.
local function copied(offset, length)
  local there = base + offset
  local bytes = ffi.cast(halfs, there)[2]
  if bytes < 28 + length or bytes > 2048 or offset + bytes > size then return 0 end
  ffi.copy(entry, there, bytes)
  if halves[2] ~= bytes or halves[3] ~= length or C.memcmp(entry + 28, key, length) ~= 0
      or numbers[2] >= words[3] or words[16 + numbers[2]] ~= numbers[3] then
    return 0
  end
  return bytes
end

local function is_whole(bytes)
  local whole = rshift(bytes, 2)
  local crc = crc32(crc_fulls(-1, numbers, 1, whole), entry, whole * 4, bytes)
  return numbers[0] == band(bxor(crc, -1), 0x7FFFFFFF) + (crc >= 0 and 0x80000000 or 0)
end

-- A copy of the entry under the key, if there is one that is whole and still counts.
local function find(length, crc)
  local hash = bxor(crc, -1)
  for probe = 0, PROBES - 1 do
    local offset = words[slots_at + band(hash + probe, slots - 1)] * 8
    if offset == 0 or offset + 28 > size then return false end
    local bytes = copied(offset, length)
    if bytes ~= 0 then return is_whole(bytes) end
  end
  return false
end

-- One question, nothing else but an OPT; opcode 0, not a response.
local function is_plain(packet, length)
  return length >= 17 and band(packet[2], 0xF8) == 0 and packet[4] == 0 and packet[5] == 1
    and packet[6] + packet[7] + packet[8] + packet[9] + packet[10] == 0 and packet[11] <= 1
end

-- The end of the question, its name in lower case in `key`, and the CRC of that; or nil.
local function question(packet, length)
  local left, crc, last = 0, -1, math.min(length - 5, 267)
  for at = 12, last do
    local char = packet[at]
    if left > 0 then
      left = left - 1
      if char >= 65 and char <= 90 then char = char + 32 end
    elseif char == 0 then
      ffi.copy(key + at - 12, packet + at, 5)
      return at + 5, crc32(crc, key, at - 12, at - 7)
    elseif char > 63 then
      return nil
    else
      left = char
    end
    key[at - 12] = char
    crc = crc_octet(crc, char)
  end
  return nil
end

-- Is there at `at` an OPT record of version 0, with no flag but DO, that ends the packet?
local function is_opt(packet, at, length)
  return at + 11 <= length and packet[at] == 0 and packet[at + 1] == 0 and packet[at + 2] == 41
    and packet[at + 5] == 0 and packet[at + 6] == 0 and band(packet[at + 7], 0x7F) == 0
    and packet[at + 8] == 0 and at + 11 + packet[at + 9] * 256 + packet[at + 10] == length
end

-- Do the options end where the packet ends, and is none a client subnet (for whom is not who)?
local function without_subnet(packet, at, length)
  while at + 4 <= length do
    if packet[at] == 0 and packet[at + 1] == 8 then return false end
    at = at + 4 + packet[at + 2] * 256 + packet[at + 3]
  end
  return at == length
end

-- The UDP size that an OPT record allows.
local function room(packet, at)
  return math.max(PLAIN_UDP, math.min(packet[at + 3] * 256 + packet[at + 4], MAX_UDP))
end

local address, address_size = ffi.new("const void *[1]"), ffi.new("size_t[1]")

-- The client's address: its octets and how many (4 for ::ffff:0:0/96).
local function client(dq)
  C.dnsdist_ffi_dnsquestion_get_remoteaddr(dq, address, address_size)
  local bytes, width = ffi.cast(octets, address[0]), tonumber(address_size[0])
  if width == 16 and bytes[10] == 0xFF and bytes[11] == 0xFF then
    local high = ffi.cast(longs, bytes)[0]
    if high == 0 and bytes[8] == 0 and bytes[9] == 0 then return bytes + 12, 4 end
  end
  return bytes, width
end

-- Looks for the client's prefix, longest first; any that is there holds for it.
local function look_up(dq, length, crc)
  local bytes, width = client(dq)
  local used = ffi.cast(halfs, base)[width == 4 and 12 or 13]
  local step, most = width == 4 and 1 or 2, width == 4 and 4 or 8
  key[length] = width == 4 and 4 or 6
  ffi.copy(key + length + 2, bytes, width)
  crc = crc_octet(crc, key[length])
  for n = most, 0, -1 do
    if band(used, lshift(1, n)) ~= 0 then
      key[length + 1] = n
      local whole = length + 2 + n * step
      if find(whole, crc32(crc, key, length + 1, whole)) then return whole end
    end
  end
  return nil
end

-- Puts the entry's reply behind the question, where the query is; None if it would not fit.
local function reply(dq, stop, key_length, limit, dnssec)
  local tail = halves[2] - 28 - key_length
  local total = stop + tail + (dnssec and 11 or 0)
  if total > limit then return DNSAction.None end
  C.dnsdist_ffi_dnsquestion_set_size(dq, total)
  -- The buffer may have moved.
  local out = ffi.cast(writable, C.dnsdist_ffi_dnsquestion_get_header(dq))
  -- RD as asked; CD too, as RFC 4035 3.1.6 wants it.
  out[2] = entry[16] + band(out[2], 1)
  out[3] = entry[17] + band(out[3], 0x10)
  ffi.copy(out + 4, entry + 18, 8)
  ffi.copy(out + stop, entry + 28 + key_length, tail)
  if dnssec then
    out[11] = out[11] + 1
    local opt = out + stop + tail
    ffi.fill(opt, 11)
    opt[2], opt[3], opt[4], opt[7] = 41, rshift(MAX_UDP, 8), band(MAX_UDP, 0xFF), dnssec
  end
  return DNSAction.HeaderModify
end

local function packet_of(dq)
  return ffi.cast(octets, C.dnsdist_ffi_dnsquestion_get_header(dq)),
    tonumber(C.dnsdist_ffi_dnsquestion_get_len(dq))
end

local function respond(dq)
  if not is_current() then return DNSAction.None end
  local packet, length = packet_of(dq)
  if not is_plain(packet, length) then return DNSAction.None end
  local stop, crc = question(packet, length)
  if stop == nil then return DNSAction.None end
  local limit, dnssec = PLAIN_UDP, nil
  if packet[11] == 1 then
    if not is_opt(packet, stop, length) then return DNSAction.None end
    if length > stop + 11 and not without_subnet(packet, stop + 11, length) then
      return DNSAction.None
    end
    limit, dnssec = room(packet, stop), packet[stop + 7]
  elseif stop ~= length then
    return DNSAction.None
  end
  if C.dnsdist_ffi_dnsquestion_get_tcp(dq) then limit = 4096 end
  local key_length = look_up(dq, stop - 12, crc)
  if key_length == nil then return DNSAction.None end
  return reply(dq, stop, key_length, limit, dnssec)
end

-- The compiler cannot take a light userdata for a pointer; cast here, all behind is compiled.
return function(dq) return respond(ffi.cast("dnsdist_ffi_dnsquestion_t *", dq)) end
]==]

local known = {zones = "table", servers = "table", table = "string", pool = "string"}

function meshd(options)
  for name, value in pairs(options) do
    if known[name] == nil then error("meshd: " .. tostring(name) .. " is no setting", 2) end
    if type(value) ~= known[name] then
      error("meshd: " .. name .. " must be a " .. known[name], 2)
    end
  end
  if options.zones == nil or #options.zones == 0 then
    error('meshd: zones is missing, as in zones = {"mesh.internal"}', 2)
  end
  local pool = options.pool or "meshd"
  for number, server in ipairs(options.servers or {"127.0.0.1:5300"}) do
    newServer{
      address = server, name = pool .. "-" .. number, pool = pool,
      -- meshd must know the client; by client subnet it would be cut, and come back changed.
      useProxyProtocol = true,
      checkName = options.zones[1], checkType = "SOA", mustResolve = true,
      checkInterval = 1, maxCheckFailures = 2,
    }
  end
  local names = newSuffixMatchNode()
  for _, zone in ipairs(options.zones) do names:add(newDNSName(zone)) end
  local ours = SuffixMatchNodeRule(names)
  if options.table then
    addAction(ours, LuaFFIPerThreadAction(string.format(reader, options.table)))
  end
  -- Without a server dnsdist would be silent, and clients would wait. setServFailWhenNoServer
  -- does the same, but for all pools.
  addAction(AndRule{ours, NotRule(PoolAvailableRule(pool))}, RCodeAction(DNSRCode.SERVFAIL))
  -- The pool has no packet cache and must not get one: its key knows no client.
  addAction(ours, PoolAction(pool))
end
