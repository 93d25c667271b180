from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent

# recbole 1.2.1 asks for a ray that does not exist on Python 3.12 and later. There it is installed with --no-deps (see
# the README), and what it needs, all but ray, is listed here.
RECBOLE_WITHOUT_RAY = [
    "colorlog==4.7.2",
    "colorama==0.4.4",
    "plotly>=4.0.0",
    "psutil>=5.9.0",
    "scikit-learn>=0.23.2",
    "tabulate>=0.8.10",
    "tensorboard>=2.5.0",
    "texttable>=0.9.0",
]

CLUSTER = ["dask[distributed]>=2023.5"]
TUNE = ["hyperopt==0.2.5", "setuptools<82"]  # hyperopt needs pkg_resources
LOOKUP = ["numba>=0.57"]
TEST = ["pytest>=7", "pytest-xdist>=3", "matplotlib>=3.6", "statsmodels>=0.14", *CLUSTER, *TUNE, *LOOKUP]

setup(
    name="recbole_attn",
    version="0.1.0",
    description="Mended attention for sequential recommendation (AC-TSR, AWRSR, FAIR), as a RecBole plugin",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.9",
    packages=[*find_packages(include=["recbole_attn", "recbole_attn.*"]), "recbole_attn.properties"],
    package_dir={"recbole_attn.properties": "properties"},
    package_data={
        "recbole_attn.properties": ["*.yaml", "*/*.yaml"],
        "recbole_attn.compare.report": ["report.css", "report.js"],
    },
    install_requires=[
        "recbole==1.2.1; python_version < '3.12'",
        "faiss-cpu>=1.8",
        "numpy>=1.22",
        "pandas>=1.4,<3",
        "pyyaml>=5.4",
        "scikit-learn>=1.0",
        "scipy>=1.6",
        "torch>=2.1",
        "threadpoolctl>=2.0",
        "tqdm>=4.48",
        *(f"{requirement}; python_version >= '3.12'" for requirement in RECBOLE_WITHOUT_RAY),
    ],
    extras_require={
        "report": ["matplotlib>=3.6"],
        "sentence": ["sentence-transformers>=2.2"],
        "cluster": CLUSTER,
        "tune": TUNE,
        "lookup": LOOKUP,
        "test": TEST,
        "dev": [*TEST, "ruff>=0.6", "mypy>=1.8", "types-PyYAML"],
    },
    entry_points={"console_scripts": ["recbole-attn = recbole_attn.cli:main"]},
    classifiers=[
        "License :: OSI Approved :: MIT License",
        "Programming Language :: Python :: 3.9",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
    ],
)
