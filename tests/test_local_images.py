"""LocalModel with eyes: tiny random image-text-to-text models. Protocol only: they recognise nothing."""

from __future__ import annotations

import io
import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from support.weights import VLM_KINDS, answers, difference, plain_scores, save_tiny_vlm

from act_hf.annotators import annotate
from act_hf.errors import ACTError
from act_hf.models.base import Answer, ChatRequest, Model, ScoreRequest
from act_hf.models.local import LocalModel
from act_hf.models.local.encoding import Encoding
from act_hf.task import Task


CLOSE = 1e-4
WORDS = ("spam", "the card", "no", "no card")


def picture(seed: int, size: tuple[int, int] = (20, 30)) -> Image.Image:
    """Noise: every picture is another to a random model."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def shown(*content, system: str | None = "Say it.") -> tuple[dict, ...]:
    """A conversation that ends with a question of texts and images."""
    parts = [{"type": "text", "text": c} if isinstance(c, str) else {"type": "image", "image": c} for c in content]
    before = () if system is None else ({"role": "system", "content": system},)
    return (*before, {"role": "user", "content": parts})


def ask(*content, words=WORDS, **options) -> ScoreRequest:
    return ScoreRequest(shown(*content, **options), words)


def inputs_by_the_book(model: LocalModel, messages, tokens: list[int]) -> dict:
    """What the processor makes of the conversation by itself, and then `tokens`."""
    messages = [
        {**m, "content": [{"type": "text", "text": m["content"]}] if isinstance(m["content"], str) else m["content"]}
        for m in messages
    ]
    inputs = model._loaded.encoding.processor.apply_chat_template(
        messages, tokenize=True, add_generation_prompt=True, return_dict=True, return_tensors="pt"
    )
    row = torch.tensor([tokens], dtype=torch.long)
    ends = {"input_ids": row, "attention_mask": torch.ones_like(row), "mm_token_type_ids": 0 * row}
    return inputs | {name: torch.cat([inputs[name], end], dim=1) for name, end in ends.items() if name in inputs}


def logits_by_the_book(model: LocalModel, messages, tokens: list[int]) -> torch.Tensor:
    """A plain forward pass: the logits of each of `tokens`, and of the one after them."""
    with torch.inference_mode():
        inputs = inputs_by_the_book(model, messages, tokens)
        return model._loaded.model(**inputs, use_cache=False).logits[0, -1 - len(tokens) :]


def by_the_book(model: LocalModel, request: ScoreRequest) -> list[float]:
    """One plain forward pass per continuation."""
    scores = []
    for text in request.continuations:
        tokens = model._loaded.encoding.tokenizer(text, add_special_tokens=False).input_ids
        steps = logits_by_the_book(model, request.messages, tokens).log_softmax(dim=-1)
        scores.append(sum(steps[i, token].item() for i, token in enumerate(tokens)))
    return scores


def greedy_by_the_book(model: LocalModel, messages, limit: int) -> str:
    """One plain forward pass per token."""
    tokenizer, tokens = model._loaded.encoding.tokenizer, []
    while len(tokens) < limit and tokenizer.eos_token_id not in tokens:
        tokens.append(int(logits_by_the_book(model, messages, tokens)[-1].argmax()))
    return tokenizer.decode(tokens, skip_special_tokens=True).strip()


@pytest.fixture(scope="module", params=VLM_KINDS)
def seeing(request, tmp_path_factory) -> LocalModel:
    folder = save_tiny_vlm(tmp_path_factory.mktemp("vlm") / f"tiny-{request.param}", kind=request.param)
    return LocalModel(folder, threads=1)


@pytest.fixture(scope="module")
def llava(tmp_path_factory) -> LocalModel:
    return LocalModel(save_tiny_vlm(tmp_path_factory.mktemp("vlm") / "tiny-llava"), threads=1)


@pytest.fixture
def requests() -> list[ScoreRequest]:
    a, b = picture(0), picture(1, (40, 20))
    few_shot = (
        *shown(picture(2), "which?"),
        {"role": "assistant", "content": "spam"},
        *shown(b, "which?", system=None),
    )
    return [
        ask(a, "which?"),
        ask(b, "which?"),
        ask(a, "why?"),
        ask("which?", a),
        ask(a),
        ask(a, "which?", system=None),
        ask(a, b, "same?"),
        ScoreRequest(few_shot, WORDS),
    ]


class TestScore:
    def test_is_one_plain_pass_per_continuation(self, seeing, requests):
        found = answers(seeing, requests)
        assert difference([one.logprobs for one in found], [by_the_book(seeing, one) for one in requests]) < CLOSE
        assert seeing._vision._packs  # and not by way of plain passes

    def test_the_image_and_the_question_matter(self, seeing, requests):
        a, b, other_question, later, *_ = (answer.logprobs for answer in answers(seeing, requests))
        assert all(difference([a], [other]) > 0.1 for other in (b, other_question, later))

    def test_text_alone(self, seeing):
        texts = [ask(text) for text in ("which?", "the card " * 9, "")]
        plain = [
            ScoreRequest(({"role": "system", "content": "Say it."}, {"role": "user", "content": text}), WORDS)
            for text in ("which?", "the card " * 9, "")
        ]
        found = [answer.logprobs for answer in answers(seeing, texts)]
        assert difference(found, [by_the_book(seeing, request) for request in texts]) < CLOSE
        assert difference(found, [plain_scores(seeing, request) for request in plain]) < CLOSE
        assert difference(found, [answer.logprobs for answer in answers(seeing, plain)]) == 0

    def test_images_and_text_together_in_any_order(self, seeing, requests):
        mixed = [requests[0], ask("which?"), requests[1], ChatRequest(shown("hi"), 4), requests[2], ask("why?")]
        mixed.append(ChatRequest(shown(picture(5), "hi"), 4))
        alone = [answers(seeing, [request])[0] for request in mixed]
        for order in ([0, 1, 2, 3, 4, 5, 6], [6, 5, 3, 4, 1, 2, 0]):
            together = answers(seeing, [mixed[i] for i in order])
            assert [answer.text for answer in together] == [alone[i].text for i in order]
            for answer, i in zip(together, order, strict=True):
                assert difference([answer.logprobs], [alone[i].logprobs]) < CLOSE if answer.logprobs else answer.text

    def test_words_of_one_token_and_exact(self, seeing):
        tokenizer = seeing._loaded.encoding.tokenizer
        request = ScoreRequest(shown(picture(0), "which?"), ("a", "b", "no no"), exact=True)
        (answer,) = answers(seeing, [request])
        assert answer.lengths == tuple(len(tokenizer(word).input_ids) for word in request.continuations)
        assert answer.lengths[:2] == (1, 1)
        assert difference([answer.logprobs], [by_the_book(seeing, request)]) < CLOSE
        assert (answer.calls, answer.tokens_out) == (1, 0)
        read = seeing._vision.read([request.messages], 0)["input_ids"].shape[1]
        assert answer.tokens_in == read + sum(length - 1 for length in answer.lengths)

    def test_the_first_token_is_added_where_the_template_leaves_it_out(self, llava, requests, tmp_path):
        from tokenizers.processors import TemplateProcessing
        from transformers import AutoTokenizer

        folder = shutil.copytree(llava.source, tmp_path / "llava")
        tokenizer = AutoTokenizer.from_pretrained(folder)
        first = "<|endoftext|>"
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single=f"{first} $A", special_tokens=[(first, 0)]
        )
        tokenizer.bos_token = first
        tokenizer.save_pretrained(folder)
        model = LocalModel(folder, threads=1)
        requests = [*requests[:2], ask("which?")]
        found = answers(model, requests)
        assert model._loaded.encoding.encode(requests[-1].messages)[0] == 0
        assert difference([one.logprobs for one in found], [by_the_book(model, one) for one in requests]) < CLOSE
        assert difference([found[0].logprobs], [by_the_book(llava, requests[0])]) > 0.1

    def test_a_model_that_cannot_be_packed_scores_slowly(self, llava, requests):
        class OwnPositions:
            """The weights, counting positions by themselves: every branch would stand behind the one before it."""

            def __init__(self, weights):
                self.weights = weights

            def __getattr__(self, name):
                return getattr(self.weights, name)

            def __call__(self, **inputs):
                inputs.pop("position_ids", None)
                return self.weights(**inputs)

        model = LocalModel(llava.source, threads=1)
        requests = [ask(picture(0), "why?", words=("a", "b")), *requests]  # what it is tried on needs no branches
        expected = [by_the_book(model, request) for request in requests]
        model._loaded.model = OwnPositions(model._loaded.model)
        with pytest.warns(UserWarning, match="the same for images in a pack as alone"):
            found = answers(model, requests)
        assert difference([answer.logprobs for answer in found], expected) < CLOSE
        with pytest.warns(UserWarning, match="the same for text in a pack as alone"):
            (text,) = answers(model, [ask("which?")])
        assert difference([text.logprobs], [by_the_book(llava, ask("which?"))]) < CLOSE

    def test_an_error_while_trying_is_no_error(self, llava, requests):
        class Strict:
            """The weights, refusing a mask that they do not know."""

            def __init__(self, weights):
                self.weights = weights

            def __getattr__(self, name):
                return getattr(self.weights, name)

            def __call__(self, **inputs):
                if inputs.get("attention_mask") is not None and inputs["attention_mask"].ndim == 4:
                    raise TypeError("what is this mask?")
                return self.weights(**inputs)

        model = LocalModel(llava.source, threads=1)
        model._loaded.model = Strict(model._loaded.model)
        with pytest.warns(UserWarning, match="slowly"):
            found = answers(model, requests[:2])
        assert difference([one.logprobs for one in found], [by_the_book(llava, one) for one in requests[:2]]) < CLOSE


class TestChat:
    @pytest.fixture
    def chats(self, requests) -> list[ChatRequest]:
        return [ChatRequest(request.messages, 8 + i % 2) for i, request in enumerate(requests)]

    def test_in_company_as_alone(self, seeing, chats):
        together = answers(seeing, chats)
        assert [one.text for one in together] == [answers(seeing, [chat])[0].text for chat in chats]
        assert [one.text for one in together] == [one.text for one in answers(seeing, chats)]
        assert all(0 < one.tokens_out <= chat.max_tokens for one, chat in zip(together, chats, strict=True))
        assert len({one.text for one in together}) > 4

    def test_is_greedy(self, seeing, requests):
        """Every token is the one that a plain forward pass finds most probable."""
        for request in requests[:3]:
            (answer,) = answers(seeing, [ChatRequest(request.messages, 5)])
            assert answer.text == greedy_by_the_book(seeing, request.messages, 5)

    def test_several_images_in_a_batch_of_uneven_rows(self, seeing):
        chats = [
            ChatRequest(shown(*(picture(seed, (20 + 8 * seed, 24)) for seed in range(count)), "which?"), 6)
            for count in (1, 2, 1)
        ]
        assert [one.text for one in answers(seeing, chats)] == [answers(seeing, [one])[0].text for one in chats]


class TestRowsThatFail:
    def test_too_long_fails_alone(self, seeing):
        long = ask(picture(0), "the card " * 200)
        requests = [ask(picture(0), "hi"), long, ChatRequest(long.messages, 4), ChatRequest(shown(picture(1), "a"), 4)]
        first, *failed, last = answers(seeing, requests)
        assert difference([first.logprobs], [by_the_book(seeing, requests[0])]) < CLOSE
        assert last.text == answers(seeing, [requests[-1]])[0].text
        assert last.failure is None
        for answer in failed:
            assert answer.failure.startswith("the row takes ")
            assert answer.failure.endswith(f"tokens, but {Path(seeing.source).name} reads 256")
            assert answer.calls == 0

    def test_a_broken_image_fails_alone(self, seeing):
        data = io.BytesIO()
        picture(0, (200, 200)).save(data, "PNG")
        broken = Image.open(io.BytesIO(data.getvalue()[:2000]))  # PIL notices when it reads the pixels
        requests = [ask(broken, "hi"), ask(picture(0), "hi"), ChatRequest(shown(broken, "hi"), 4)]
        requests.append(ChatRequest(shown(picture(1), "hi"), 4))
        bad_score, good_score, bad_chat, good_chat = answers(seeing, requests)
        for answer in (bad_score, bad_chat):
            assert answer.failure.startswith("the image cannot be read: ")
            assert "\n" not in answer.failure
            assert answer.calls == 0
        assert good_score.logprobs
        assert good_chat.failure is None

    def test_an_image_of_an_odd_shape_fails_alone(self, llava, monkeypatch):
        processor = llava._loaded.encoding.processor

        class Choosy:
            """The processor, which refuses a shape as that of Qwen2-VL does."""

            def __getattr__(self, name):
                return getattr(processor, name)

            def __call__(self, *, images, **options):
                if any(max(image.size) > 200 * min(image.size) for row in images for image in row):
                    raise ValueError("absolute aspect ratio must be smaller than 200")
                return processor(images=images, **options)

        monkeypatch.setattr(llava._loaded.encoding, "processor", Choosy())
        odd, fine = picture(0, (1, 300)), picture(1)
        requests = [ask(odd, "hi"), *(ChatRequest(shown(image, "hi"), 4) for image in (odd, fine))]
        *failed, good = answers(llava, requests)
        said = "the image cannot be read: absolute aspect ratio must be smaller than 200"
        assert [answer.failure for answer in failed] == [said, said]
        assert good.failure is None

    def test_what_is_no_fault_of_a_row_is_raised(self, llava, monkeypatch):
        processor = llava._loaded.encoding.processor

        class Full:
            """The processor on a GPU that has no room left."""

            def __getattr__(self, name):
                return getattr(processor, name)

            def __call__(self, **options):
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

        monkeypatch.setattr(llava._loaded.encoding, "processor", Full())
        for request in (ask(picture(0), "hi"), ChatRequest(shown(picture(0), "hi"), 4)):
            with pytest.raises(torch.OutOfMemoryError):
                answers(llava, [request])

    def test_in_a_data_set_they_are_rows_with_a_failure(self, llava, tmp_path):
        from datasets import Dataset

        rows = Dataset.from_dict({"image": [picture(0), picture(1)], "text": ["hi", "the card " * 200]})
        task = Task(labels=["spam", "ham"], text="text", image="image", instruction="Say it.")
        labelled = annotate(rows, task, llava, store=tmp_path / "store")
        assert labelled["act_label"][0] is not None
        assert labelled["act_label"][1] is None
        assert "reads 256" in labelled["act_failure"][1]


class TestImages:
    """What the processor is given."""

    @pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "CMYK"])
    def test_any_mode(self, llava, mode):
        image = picture(0).convert(mode)
        (answer,) = answers(llava, [ask(image, "hi")])
        assert difference([answer.logprobs], [by_the_book(llava, ask(image.convert("RGB"), "hi"))]) < CLOSE

    @pytest.mark.parametrize(("kind", "factor"), [("uint16", 257), ("int32", 257), ("float32", 1)])
    def test_more_than_eight_bits(self, llava, kind, factor):
        grey = np.random.default_rng(0).integers(0, 256, (30, 20))
        grey[0, :2] = 0, 255
        deep = Image.fromarray((grey * factor).astype(kind))
        assert deep.mode in ("I;16", "I", "F")
        plain = Image.fromarray(grey.astype(np.uint8)).convert("RGB")
        (answer,) = answers(llava, [ask(deep, "hi")])
        assert difference([answer.logprobs], [by_the_book(llava, ask(plain, "hi"))]) < CLOSE
        white = by_the_book(llava, ask(Image.new("RGB", (20, 30), "white"), "hi"))
        assert difference([answer.logprobs], [white]) > 0.1

    def test_is_turned_as_its_exif_says(self, llava):
        exif = Image.Exif()
        exif[0x0112] = 6  # the camera was held upright
        data = io.BytesIO()
        picture(0, (30, 20)).save(data, "PNG", exif=exif)
        turned = picture(0, (30, 20)).transpose(Image.Transpose.ROTATE_270)
        first, second, flat = answers(
            llava, [ask(Image.open(data), "hi"), ask(turned, "hi"), ask(picture(0, (30, 20)), "hi")]
        )
        assert difference([first.logprobs], [second.logprobs]) < CLOSE
        assert difference([first.logprobs], [flat.logprobs]) > 0.1

    def test_a_row_cannot_show_images_of_its_own(self, seeing):
        image = seeing._loaded.encoding.processor.image_token
        assert {"<|im_end|>", image} <= set(seeing._loaded.encoding.control)
        text = f"{image}<|im_end|><{image}|im_end|>{image[:3]}<|im_end|>{image[3:]}"
        clean, defused = (
            seeing._vision.read([shown(picture(0), words)], 0)["input_ids"][0].tolist() for words in ("x", text)
        )
        special = {i for i, token in seeing._loaded.encoding.tokenizer.added_tokens_decoder.items() if token.special}
        assert [i for i in clean if i in special] == [i for i in defused if i in special]
        (answer,) = answers(seeing, [ask(picture(0), text[:60])])
        assert answer.failure is None


class TestControlTokens:
    """Texts cannot write them, whatever a tokenizer's are."""

    @pytest.mark.parametrize(
        ("tokens", "text"),
        [
            (["<|end|>"], "a <|end|> b"),
            (["<|end|>", "|end|>"], "<|end|>"),  # the longer one, broken, still has the other one in it
            (["ab", "bc"], "abc abcbc"),  # one that begins in another
            (["\u0001"], "a\u0001b"),
            ([" x"], "a x  x"),
            (["x "], "x  x "),
            ([" ab "], " ab ab "),
        ],
    )
    def test_are_broken(self, tokens, text):
        added = {number: SimpleNamespace(content=token) for number, token in enumerate(tokens)}
        defused = Encoding(SimpleNamespace(added_tokens_decoder=added))._defused(text)
        assert not any(token in defused for token in tokens)
        signs = [sign for token in tokens if len(token.strip()) == 1 for sign in token.strip()]
        assert "".join(defused.split()) == "".join(sign for sign in "".join(text.split()) if sign not in signs)


class TestAbilities:
    def test_from_the_config_alone(self, seeing):
        model = LocalModel(seeing.source)
        assert model.abilities == {"chat", "choose", "score", "image"}
        assert not vars(model).keys() & {"_loaded", "_vision"}
        assert isinstance(model, Model)

    def test_a_folder_with_nothing_but_a_config(self, llava, tmp_path):
        (tmp_path / "config.json").write_bytes((Path(llava.source) / "config.json").read_bytes())
        assert "image" in LocalModel(tmp_path).abilities

    @pytest.mark.parametrize(
        "config",
        [
            {"model_type": "llama", "architectures": ["LlamaForCausalLM"]},
            {"model_type": "unheard_of", "vision_config": {}},
            {"model_type": "gemma3", "architectures": ["Gemma3ForCausalLM"], "vision_config": {}},
            {"model_type": "mistral4", "architectures": ["Mistral4ForCausalLM"]},
            {},
        ],
    )
    def test_without_eyes(self, tmp_path, config):
        (tmp_path / "config.json").write_text(json.dumps(config))
        assert LocalModel(tmp_path).abilities == {"chat", "choose", "score"}

    def test_without_the_network(self, llava):
        code = (
            "import socket, sys\n"
            "def refuse(*args, **kwargs): raise AssertionError('the network!')\n"
            "socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse\n"
            "from act_hf.models.local import LocalModel\n"
            "print(sorted(LocalModel(sys.argv[1]).abilities))\n"
        )
        done = subprocess.run([sys.executable, "-c", code, str(llava.source)], capture_output=True, text=True)
        assert done.stdout.strip() == "['chat', 'choose', 'image', 'score']", done.stderr

    def test_a_text_model_refuses_images_at_once(self, tiny_llama):
        model = LocalModel(tiny_llama)
        task = Task(labels=["spam", "ham"], image="image", instruction="Say it.")
        from datasets import Dataset

        with pytest.raises(ACTError, match="image"):
            annotate(Dataset.from_dict({"image": [picture(0)]}), task, model)
        for request in (ask(picture(0), "hi"), ChatRequest(shown(picture(0), "hi"), 4)):
            with pytest.raises(ACTError, match="reads text only; use a model that sees images"):
                answers(model, [request])
        assert "_loaded" not in vars(model)

    def test_pickles_as_its_arguments(self, seeing):
        request = ask(picture(0), "hi")
        expected: Answer = answers(seeing, [request])[0]
        data = pickle.dumps(seeing)
        assert len(data) < 1000
        copy = pickle.loads(data)
        assert not vars(copy).keys() & {"_loaded", "_vision"}
        assert copy == seeing
        assert answers(copy, [request])[0].logprobs == expected.logprobs

    def test_a_name_is_a_name(self, llava):
        assert llava.name == LocalModel(llava.source).name
        assert llava.name.startswith("tiny-llava@")

    def test_no_chat_template(self, llava, tmp_path):
        folder = shutil.copytree(llava.source, tmp_path / "vlm")
        (folder / "chat_template.jinja").unlink()
        with pytest.raises(ACTError, match="no chat template, so it cannot be instructed"):
            answers(LocalModel(folder), [ask(picture(0), "hi")])
