"""DICOM files for the tests: made here, encoded by gdcm, or shipped with pydicom."""

import importlib.util
import io
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

pydicom = pytest.importorskip('pydicom', reason='DICOM files need pydicom')

from pydicom.data import get_testdata_file  # noqa: E402
from pydicom.dataset import Dataset, FileMetaDataset  # noqa: E402
from pydicom.encaps import encapsulate  # noqa: E402

from big_ssl.data.dicom import read_frame  # noqa: E402

EXPLICIT, IMPLICIT = '1.2.840.10008.1.2.1', '1.2.840.10008.1.2'
BIG_ENDIAN, DEFLATED = '1.2.840.10008.1.2.2', '1.2.840.10008.1.2.1.99'
JPEG, EXTENDED, LOSSLESS, JPEG_LS, JPEG_2000 = (
    f'1.2.840.10008.1.2.4.{end}' for end in (50, 51, 70, 80, 90)
)
RLE = '1.2.840.10008.1.2.5'
SYNTAXES = {  # gdcm's names
    'JPEGLosslessProcess14': '1.2.840.10008.1.2.4.57',
    'JPEGLosslessProcess14_1': LOSSLESS,
    'JPEGLSLossless': JPEG_LS,
    'JPEG2000Lossless': JPEG_2000,
    'RLELossless': RLE,
}
HAS_GDCM = importlib.util.find_spec('gdcm') is not None
NEEDS_GDCM = pytest.mark.skipif(not HAS_GDCM, reason='lossless JPEG needs python-gdcm')
MAX_PIXELS = 10**7
PERSONAL = {
    'PatientName': 'Verysecret^Philippa',
    'PatientID': 'MRN8675309',
    'PatientBirthDate': '19371113',
    'AccessionNumber': 'ACC47110815',
    'InstitutionName': 'St Elsewhere',
    'StudyInstanceUID': '1.2.826.0.1.3680043.9.424242',
}


def dicom(pixels, syntax=EXPLICIT, *, codestreams=None, frames=1, has_table=True, **attributes):
    """A file with `pixels`, [frames, h, w, samples] as stored, or with their codestreams."""
    pixels = np.asarray(pixels)
    bits, colour = 8 * pixels.dtype.itemsize, pixels.ndim - (frames > 1) == 3
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = '1.2.840.10008.5.1.4.1.1.7'
    dataset.file_meta.MediaStorageSOPInstanceUID = '1.2.3'
    common = {
        'SOPClassUID': '1.2.840.10008.5.1.4.1.1.7',
        'SOPInstanceUID': '1.2.3',
        'SamplesPerPixel': 3 if colour else 1,
        'PhotometricInterpretation': 'RGB' if colour else 'MONOCHROME2',
        'NumberOfFrames': frames,
        'Rows': pixels.shape[frames > 1],
        'Columns': pixels.shape[(frames > 1) + 1],
        'BitsAllocated': bits,
        'BitsStored': bits,
        'PixelRepresentation': int(pixels.dtype.kind == 'i'),
        **({'PlanarConfiguration': 0} if colour else {}),
        **PERSONAL,
        **attributes,
    }
    common.setdefault('HighBit', (common['BitsStored'] or bits) - 1)
    for name, value in common.items():
        if name.startswith('PixelPadding'):
            dataset.add_new(name, 'SS' if value < 0 else 'US', value)
        elif value is not None:
            setattr(dataset, name, value)
    if 'PixelData' not in attributes:
        order = '>' if syntax == BIG_ENDIAN else '<'
        data = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
        dataset.PixelData = (
            encapsulate(codestreams, has_bot=has_table)
            if codestreams
            else data + b'\0' * (len(data) % 2)
        )
        dataset['PixelData'].VR = 'OB' if codestreams or bits == 8 else 'OW'
        dataset['PixelData'].is_undefined_length = bool(codestreams)
    file = io.BytesIO()
    order = {'implicit_vr': syntax == IMPLICIT, 'little_endian': syntax != BIG_ENDIAN}
    pydicom.dcmwrite(file, dataset, enforce_file_format=True, **order)
    return file.getvalue()


def lookup_table(first, entries, bits, vr='US', order='<'):
    """An item of a Modality or VOI LUT Sequence."""
    item = Dataset()
    item.add_new(0x00283002, 'SS' if first < 0 else 'US', [len(entries) % 65536, first, bits])
    packed = vr == 'OW' and bits == 8
    data = bytes(entries) if packed else np.array(entries, f'{order}u2').tobytes()
    item.add_new(0x00283006, vr, list(entries) if vr == 'US' else data + b'\0' * (len(data) % 2))
    return item


def palette(bits, tables, first=0, count=None):
    attributes = {'PhotometricInterpretation': 'PALETTE COLOR'}
    for colour, entries in zip(('Red', 'Green', 'Blue'), tables):
        name = f'{colour}PaletteColorLookupTable'
        attributes[f'{name}Descriptor'] = [count or len(entries), first, bits]
        attributes[f'{name}Data'] = np.array(entries, '<u2' if bits == 16 else 'u1').tobytes()
    return attributes


def shipped(name):
    """The bytes of a file in pydicom's own wheel."""
    path = get_testdata_file(name, download=False)
    if path is None:
        pytest.skip(f'this pydicom does not ship {name}')
    with open(path, 'rb') as file:
        data = file.read()
    if not HAS_GDCM and re.search(rb'1\.2\.840\.10008\.1\.2\.4\.(57|70|80|81)', data[:999]):
        pytest.skip(f'{name} needs python-gdcm')
    return data


def frame(data, window=None, index=0, max_pixels=MAX_PIXELS):
    return read_frame(data, index, window, max_pixels=max_pixels)


def refused(call, *arguments, **keywords):
    """The message of a ValueError: one short line with nothing personal in it."""
    with pytest.raises(ValueError) as caught:
        call(*arguments, **keywords)
    message = str(caught.value)
    assert 0 < len(message) < 160 and '\n' not in message
    assert not any(part in message for value in PERSONAL.values() for part in value.split('^'))
    return message


ENCODE = """
import sys, gdcm
reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
reader.SetFileName(sys.argv[1])
assert reader.Read()
change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, sys.argv[2])))
change.SetInput(reader.GetImage())
assert change.Change()
writer.SetFile(reader.GetFile())
writer.SetImage(change.GetOutput())
writer.SetFileName(sys.argv[1])
assert writer.Write()
"""


def encoded(folder, data, syntax, **attributes):
    """The same file in another transfer syntax by gdcm's encoder, then with other attributes."""
    pytest.importorskip('gdcm', reason='the encoder is python-gdcm')
    path = folder / 'file.dcm'
    path.write_bytes(data)
    subprocess.run([sys.executable, '-c', ENCODE, str(path), syntax], check=True)
    dataset = pydicom.dcmread(path)
    assert dataset.file_meta.TransferSyntaxUID == SYNTAXES[syntax]
    for name, value in attributes.items():
        setattr(dataset, name, value)
    dataset.save_as(path)
    return path.read_bytes()


def grey_jpeg(value, size=(32, 40)):
    file = io.BytesIO()
    Image.new('L', size[::-1], value).save(file, 'JPEG')
    return file.getvalue() + b'\0' * (len(file.getvalue()) % 2)


def film(codestreams, frames=3, **attributes):
    pixels = np.zeros((frames, 32, 40), np.uint8)
    return dicom(pixels, JPEG, codestreams=codestreams, frames=frames, **attributes)
