// Requests about blocks: how each is taken before the engine.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "proto/stream/messages.h"
#include "server/transfer/stream_request.h"

namespace mnemo {

// Where the bytes of one part lie in the client's memory, or why nowhere.
struct PartPlace {
  std::shared_ptr<const RegisteredRegion> region;
  SliceList slices;
  absl::Status status;
};

// The places of a request, by its own regions. `field` names one: "places[3]".
std::vector<PartPlace> FindPlaces(const RegionTable& regions,
                                  const std::vector<stream::Place>& places,
                                  const std::vector<stream::Slice>& slices);

// The engine's requests of what frames ask for; views of the same bytes.
SpaceRef SpaceOf(const stream::Scope& scope);
GetRequest GetOf(const stream::GetRequest& request);
PutRequest PutOf(const stream::PutRequest& request);
// How many parts a GET is answered with.
size_t PartsOf(const stream::GetRequest& request);
// Errors: kInvalidArgument.
absl::Status CheckPlaces(size_t places, size_t parts);
absl::Status PlaceHolds(size_t index, uint64_t held, uint64_t bytes);
// What answers say of parts.
void DescribePart(const ReadStep& header, stream::GetAnswer::Part& part);
void AddResults(const std::vector<PutResult>& results, stream::PutAnswer& answer);

class MatchStreamRequest final : public StreamRequest {
 public:
  MatchStreamRequest(const RequestRooms& rooms, const stream::Header& header, ByteView body)
      : StreamRequest(rooms, header, body) {}
  const MethodRule& rule() const override;
  Progress Begin() override;
  Progress Run() override;

 private:
  bool Parse() override;
  std::string Answer() const override;
  stream::MatchRequest request_;
  MatchAnswer answer_;
};

class OfferStreamRequest final : public StreamRequest {
 public:
  OfferStreamRequest(const RequestRooms& rooms, const stream::Header& header, ByteView body)
      : StreamRequest(rooms, header, body) {}
  const MethodRule& rule() const override;
  Progress Run() override;

 private:
  bool Parse() override;
  std::string Answer() const override;
  stream::OfferRequest request_;
  OfferAnswer answer_;
};

class TouchStreamRequest final : public StreamRequest {
 public:
  TouchStreamRequest(const RequestRooms& rooms, const stream::Header& header, ByteView body)
      : StreamRequest(rooms, header, body) {}
  const MethodRule& rule() const override;
  Progress Run() override;

 private:
  bool Parse() override;
  std::string Answer() const override;
  stream::TouchRequest request_;
  uint32_t found_ = 0;
};

class PrefetchStreamRequest final : public StreamRequest {
 public:
  PrefetchStreamRequest(const RequestRooms& rooms, const stream::Header& header, ByteView body)
      : StreamRequest(rooms, header, body) {}
  const MethodRule& rule() const override;
  Progress Begin() override;
  Progress Run() override;

 private:
  bool Parse() override;
  std::string Answer() const override;
  stream::PrefetchRequest request_;
  PrefetchAnswer answer_;
};

// Copies from pinned extents straight into the client's memory. Small reads of what
// is in RAM happen on the loop's thread.
class GetStreamRequest final : public StreamRequest, private ReadSink {
 public:
  GetStreamRequest(const RequestRooms& rooms, const stream::Header& header, ByteView body)
      : StreamRequest(rooms, header, body) {}
  const MethodRule& rule() const override;
  Progress Begin() override;
  Progress Run() override;

 private:
  bool Parse() override;
  std::string Answer() const override;
  absl::Status Open();
  Progress Read(bool on_loop);

  absl::Status Begin(const ReadStep& header) override;
  absl::Status Take(uint32_t index, uint64_t position, const PinnedBytes& bytes) override;
  void End(uint32_t index, const absl::Status& status) override;
  void ForEach(size_t count, const std::function<void(size_t)>& work) override {
    rooms_.copies.ForEach(count, work);
  }

  stream::GetRequest request_;
  stream::GetAnswer answer_;
  std::vector<PartPlace> places_;
  std::unique_ptr<GetSession> session_;
  uint64_t read_on_loop_ = 0;
  bool granted_ = false;
};

// Copies from the client's memory straight into reserved extents of L1.
class PutStreamRequest final : public StreamRequest {
 public:
  PutStreamRequest(const RequestRooms& rooms, const stream::Header& header, ByteView body)
      : StreamRequest(rooms, header, body) {}
  const MethodRule& rule() const override;
  Progress Run() override;

 private:
  bool Parse() override;
  std::string Answer() const override;
  absl::Status Fill(PutSession& session);

  stream::PutRequest request_;
  stream::PutAnswer answer_;
};

}  // namespace mnemo
